"""Where the demo voice's words are, by its tokens: each is a phoneme and a pitch for 20 ms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

TOKEN_SECONDS = 0.02
# Codes whose phoneme is a pad, a space or a full stop; from the demo voice's table of tokens.
SILENT = frozenset({1, 2, 3, 4, 6, 12, 14, 63, 86, 168})


def token_times(codes: Sequence[int]) -> list[tuple[float, float]]:
    """Start and end of each run of codes that speak, in seconds."""
    times: list[tuple[float, float]] = []
    at = 0
    for silent, run in groupby(codes, key=SILENT.__contains__):
        length = len(list(run))
        if not silent:
            times.append((at * TOKEN_SECONDS, (at + length) * TOKEN_SECONDS))
        at += length
    return times
