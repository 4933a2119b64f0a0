"""Where the demo voice's words are, by its tokens: each is a phoneme and a pitch for 20 ms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

TOKEN_SECONDS = 0.02


def token_times(codes: Sequence[int], silent: Collection[int]) -> list[tuple[float, float]]:
    """Start and end of each run of codes that speak, in seconds; `silent` are those that do not."""
    times: list[tuple[float, float]] = []
    at = 0
    for pause, run in groupby(codes, key=silent.__contains__):
        length = len(list(run))
        if not pause:
            times.append((at * TOKEN_SECONDS, (at + length) * TOKEN_SECONDS))
        at += length
    return times
