"""Decode steps as CUDA graphs: captured once for a few sizes, each is then a single launch.

A batch runs in the smallest captured size that holds it; the places past it compute what nobody
reads. Without CUDA nothing is captured and every step runs as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SIZES = (1, 2, 4, 8, 16, 32, 64)  # rows
LENGTHS = (512, 1024, 2048, 4096)  # positions in sight; longer ones run uncaptured

Step = Callable[[int, int], Tensor]  # rows, positions in sight -> the tokens drawn [rows]


def holding(sizes: Sequence[int], wanted: int, most: int) -> int | None:
    """The smallest of the sizes that holds `wanted` and is at most `most`."""
    return next((size for size in sizes if wanted <= size <= most), None)


class Graphs:
    """Captured steps of at most `slots` rows and `positions` positions."""

    def __init__(self, step: Step, slots: int, positions: int) -> None:
        self._slots = slots
        self._positions = positions
        self._steps: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own lack types
        stream.wait_stream(torch.cuda.current_stream())
        pool = torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(stream):
            # The largest first: the others then fit the memory that it took.
            for size in reversed([size for size in SIZES if size <= slots]):
                for length in reversed([length for length in LENGTHS if length <= positions]):
                    step(size, length)  # whatever is set up at a first run, outside the graph
                    graph = torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
                    with torch.cuda.graph(
                        graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                    ):
                        tokens = step(size, length)
                    self._steps[size, length] = graph, tokens
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self, count: int, length: int) -> Tensor | None:
        """The tokens of the first `count` rows; None where no captured size holds them.

        They are overwritten by the next replay: whatever reads them must be queued before.
        """
        size = holding(SIZES, count, self._slots)
        sight = holding(LENGTHS, length, self._positions)
        if size is None or sight is None:
            return None
        graph, tokens = self._steps[size, sight]
        graph.replay()  # type: ignore[no-untyped-call]
        return tokens[:count]
