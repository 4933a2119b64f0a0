"""A language model of a few lines: the next token is the sum of all before it, and nothing else.

A row that is moved, mixed up, fed twice or at a wrong position gives other tokens at once. Where
the sum may not be said, the next allowed token above it is the likeliest, past the largest the
smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig
from worker.speech.lm.interface import WholeRows

VOCABULARY = 50
POSITIONS = 4096
EVERYTHING = frozenset(range(VOCABULARY))


class SumCache(WholeRows):
    """The tokens that each row was fed, by position: long [rows, positions]."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens

    @property
    def positions(self) -> int:
        return self.tokens.shape[1]

    def rows(self, first: int, count: int) -> SumCache:
        return SumCache(self.tokens[first : first + count])

    def release(self, row: int) -> None:
        self.tokens[row] = 7  # or anything else

    def copy(self, source: int, target: int, length: int) -> None:
        self.tokens[target, :length] = self.tokens[source, :length]

    def scrub(self) -> None:
        """It has whole numbers alone."""


@dataclass
class ToyDecoder:
    """Counts its rows; fails or waits where a test wants it to."""

    before_step: Callable[[int], None] = lambda _rows: None
    batches: list[int] = field(default_factory=list)  # rows of each step
    before_prefill: Callable[[int], None] = lambda _rows: None
    prompts: list[list[tuple[int, ...]]] = field(default_factory=list)  # of each prefill
    heads: list[frozenset[int]] = field(default_factory=list)  # that were cut

    device = torch.device("cpu")
    dtype = torch.float32
    masked = True
    in_parts = False
    config = LMConfig(VOCABULARY, VOCABULARY, 8, 1, 1, 1, POSITIONS, 1e-6, 1e4, True)

    def new_cache(self, rows: int, positions: int | None = None) -> SumCache:
        return SumCache(torch.zeros(rows, positions or POSITIONS, dtype=torch.long))

    def prefill(
        self, parts: Sequence[Sequence[int]], cache: SumCache, begins: Sequence[int] = ()
    ) -> Tensor:
        self.before_prefill(len(parts))
        self.prompts.append([tuple(part) for part in parts])
        sums = []
        for row, (part, begin) in enumerate(zip(parts, begins or [0] * len(parts), strict=True)):
            cache.tokens[row, begin : begin + len(part)] = torch.tensor(part)
            sums.append(int(cache.tokens[row, : begin + len(part)].sum()))
        return self._states(torch.tensor(sums))

    def step(self, ids: Tensor, positions: Tensor, cache: SumCache, length: int) -> Tensor:
        self.before_step(len(ids))
        self.batches.append(len(ids))
        cache.tokens[torch.arange(len(ids)), positions] = ids
        seen = torch.arange(length) <= positions[:, None]
        return self._states((cache.tokens[:, :length] * seen).sum(-1))

    def head(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        self.heads.append(frozenset(ids.tolist()))
        return lambda hidden: hidden[:, ids]

    def _states(self, sums: Tensor) -> Tensor:
        above = (torch.arange(VOCABULARY) - sums[:, None]) % VOCABULARY
        return -above.float()


def expected(
    prompt: Sequence[int],
    count: int,
    steps: Sequence[frozenset[int]] = (EVERYTHING,),
    end: int | None = None,
) -> list[int]:
    """The greedy tokens after a prompt: at most `count`, by a plan's steps, up to its end."""
    tokens: list[int] = []
    for step in range(count):
        total = sum(prompt) + sum(tokens)
        allowed = steps[min(step, len(steps) - 1)]
        token = min(allowed, key=lambda token: (token - total) % VOCABULARY)
        if token == end:
            break
        tokens.append(token)
    return tokens
