"""Decode steps as CUDA graphs: captured once for a few sizes, each is then a single launch.

A step feeds the last tokens, and draws the next ones of those rows that speak. So a row that draws
otherwise leaves all others where they are.

A batch runs in the smallest captured size that holds it; the places past it compute what nobody
reads. Without CUDA nothing is captured and every step runs as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from worker.speech.device import captured, graph_pool, holding

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)  # rows, below the slots
LENGTHS = (512, 1024, 2048, 4096)  # positions in sight, below those that a row has


def up_to(sizes: Iterable[int], most: int) -> tuple[int, ...]:
    """The sizes that are smaller than `most`, and `most` itself."""
    return (*(size for size in sizes if size < most), most)


class CudaGraphs:
    """The captured steps of some rows."""

    def __init__(
        self,
        advance: Callable[[int, int], object],
        draw: Callable[[int], Tensor],
        sizes: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        """Capture on the current stream, which must not be the default one.

        `advance(rows, positions in sight)` feeds, `draw(rows)` gives the tokens drawn [rows]: for
        each of the sizes and lengths, both ascending.
        """
        self._sizes = sizes
        self._lengths = lengths
        pool = graph_pool()
        self._steps: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

        def step(size: int, length: int) -> Tensor:
            advance(size, length)
            return draw(size)

        # The largest first: the others then fit the memory that it took.
        for size in reversed(self._sizes):
            for length in reversed(self._lengths):
                self._steps[size, length] = captured(partial(step, size, length), pool)

    def step(self, count: int, length: int) -> Tensor:
        """Feed the first `count` rows, `length` positions in sight, and draw: their tokens.

        These are overwritten by the next step: whatever reads them must be queued before.
        """
        size, sight = holding(self._sizes, count), holding(self._lengths, length)
        graph, tokens = self._steps[size, sight]
        graph.replay()  # type: ignore[no-untyped-call]
        return tokens[:count]
