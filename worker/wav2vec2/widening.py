"""Weights that lie in halves, in float32 for as long as one product takes.

On a CPU widening costs some hundredths of a product's time, for it is done in the caches. Weights
that were kept in float32 would take twice the memory, and fill it at every start: 1.7 GB for the
aligners of two languages, 0.7 s of a core for its pages alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

HALVES = frozenset({torch.float16, torch.bfloat16})


class Widening:
    """Memory for one weight for each thread that computes, kept for the next."""

    def __init__(self, size: int) -> None:
        """`size` is that of the largest weight, in elements."""
        self._size = size
        self._free: list[Tensor] = []

    @contextmanager
    def wide(self, weight: Tensor) -> Iterator[Tensor]:
        """A half in float32, until the block ends; any other weight as it is."""
        if weight.dtype not in HALVES:
            yield weight
            return
        try:
            memory = self._free.pop()
        except IndexError:
            with torch.inference_mode(mode=False):  # for who computes without it, too
                memory = torch.empty(self._size)
        try:
            yield memory[: weight.numel()].view(weight.shape).copy_(weight)
        finally:
            self._free.append(memory)
