"""A language model of a few lines: the next token is the sum of all before it, and nothing else.

A row that is moved, mixed up or fed twice gives other tokens at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.lm import LMConfig

VOCABULARY = 50


class SumCache:
    """Of each row, the sum of the tokens that it was fed."""

    def __init__(self, sums: Tensor) -> None:
        self.sums = sums

    def rows(self, first: int, count: int) -> SumCache:
        return SumCache(self.sums[first : first + count])

    def copy(self, source: int, target: int, length: int) -> None:
        self.sums[target] = self.sums[source]


@dataclass
class ToyDecoder:
    """Counts its rows; fails or waits where a test wants it to."""

    before_step: Callable[[int], None] = lambda _rows: None
    batches: list[int] = field(default_factory=list)  # rows of each step

    device = torch.device("cpu")
    config = LMConfig(VOCABULARY, VOCABULARY, 8, 1, 1, 1, 4096, 1e-6, 1e4, True)

    def new_cache(self, rows: int, positions: int | None = None) -> SumCache:
        return SumCache(torch.zeros(rows, dtype=torch.long))

    def prefill(self, prompts: Sequence[Sequence[int]], cache: SumCache) -> Tensor:
        for row, prompt in enumerate(prompts):
            cache.sums[row] = sum(prompt)
        return self._states(cache)

    def step(self, ids: Tensor, positions: Tensor, cache: SumCache, length: int) -> Tensor:
        self.before_step(len(ids))
        self.batches.append(len(ids))
        cache.sums += ids
        return self._states(cache)

    def head(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda hidden: hidden[:, ids]

    def _states(self, cache: SumCache) -> Tensor:
        return F.one_hot(cache.sums % VOCABULARY, VOCABULARY).float()


def expected(prompt: Sequence[int], count: int) -> list[int]:
    """The greedy tokens after a prompt."""
    tokens: list[int] = []
    for _ in range(count):
        tokens.append((sum(prompt) + sum(tokens)) % VOCABULARY)
    return tokens
