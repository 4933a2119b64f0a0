"""What may be answered at each step: as it is asked for, and as the head is cut for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grammar:
    """The token ids allowed at each step of an answer; the last set holds for all later steps.

    With an `end` the answer goes on until that token is drawn, without one it has exactly
    len(steps) tokens.
    """

    steps: tuple[frozenset[int], ...]
    end: int | None = None
