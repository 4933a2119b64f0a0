"""Finds where a model has got stuck: semantic tokens that repeat, or hardly change.

The tokens are 50 a second. Speech that loops repeats a stretch of them, with a little change; a
sound that is held, or silence, has few different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOKENS_A_SECOND = 50
LONGEST_LOOP = 150  # tokens, 3 s: a longer stretch that is said twice is long for its text anyhow
SHORTEST_LOOP = 4
ALIKE = 0.9  # of the tokens, that a repetition has in common with what it repeats
STUCK_WINDOW = 50  # tokens; natural speech has a dozen different ones in them
STUCK_TOKENS = 4


@dataclass(frozen=True)
class Stretch:
    """So many seconds of tokens, from the second `start` of the sentence on."""

    start: float
    seconds: float


def stuck_of(tokens: Sequence[int], window: int = STUCK_WINDOW) -> Stretch | None:
    """The longest stretch of at least `window` tokens with hardly a change in it; None without."""
    codes = np.asarray(tokens)
    if len(codes) < window:
        return None
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(codes, window), axis=1)
    different = 1 + (np.diff(windows, axis=1) != 0).sum(axis=1)
    start, length = _longest_run(different <= STUCK_TOKENS)
    if not length:
        return None
    return Stretch(start / TOKENS_A_SECOND, (length + window - 1) / TOKENS_A_SECOND)


def loop_of(tokens: Sequence[int], least: int) -> Stretch | None:
    """The longest repetition of at least `least` tokens of what came just before; None without.

    `start` is where the repetition begins, after what it repeats.
    """
    codes = np.asarray(tokens)
    best: Stretch | None = None
    for lag in range(SHORTEST_LOOP, min(LONGEST_LOOP, len(codes) - least) + 1):
        same = codes[lag:] == codes[:-lag]
        window = max(least, lag)
        if np.count_nonzero(same) < ALIKE * window or len(same) < window:
            continue
        sums = np.concatenate([[0], np.cumsum(same)])
        alike = sums[window:] - sums[:-window] >= ALIKE * window
        start, length = _longest_run(alike)
        seconds = (length + window - 1) / TOKENS_A_SECOND
        if length and (best is None or seconds > best.seconds):
            best = Stretch((start + lag) / TOKENS_A_SECOND, seconds)
    return best


def _longest_run(true: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of true values begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(np.argmax(lengths))
    return int(starts[longest]), int(lengths[longest])
