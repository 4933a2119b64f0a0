"""Tokens a second of the language model alone."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Protocol

from bench.measure import seconds
from bench.ours import Ours
from bench.sentences import sentences

FEW = 8  # rows, up to which several rounds are worth their time


class Steps(Protocol):
    """Of a scale: a rate is the difference of a long run and a short one, the median of rounds."""

    @property
    def rounds(self) -> int: ...
    @property
    def short_steps(self) -> int: ...
    @property
    def long_steps(self) -> int: ...


def lm_rate(ours: Ours, rows: int, scale: Steps, few: int = FEW) -> float:
    """Of so many rows together, prompts left out; of more than a `few` rows one round counts."""
    texts = sentences(rows)
    taken: dict[int, list[float]] = {scale.short_steps: [], scale.long_steps: []}
    with ours.without_codec():
        ours.speak(texts, scale.short_steps)
        for number in range(scale.rounds if rows <= few else 1):
            for steps, times in taken.items():
                times.append(seconds(partial(ours.speak, texts, steps, seed=number)))
    short, long = (statistics.median(times) for times in taken.values())
    return round(rows * (scale.long_steps - scale.short_steps) / max(long - short, 1e-9), 1)
