"""How much Python a step of the batch takes: `python -m bench.scheduling`.

The scheduler as on a GPU, steps captured and read one step later, on a device that does nothing:
what is left is the Python that a step costs, torch's own calls for copies and events not counted.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor

from worker.speech.batch import device_batch
from worker.speech.batch.admission import CHUNKS
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.grammar import Grammar
from worker.speech.lm.config import LMConfig

STEPS = 3000
VOCABULARY = 64
EVERYTHING = frozenset(range(VOCABULARY))
SPEECH = Grammar((EVERYTHING - {3}, EVERYTHING), end=3)


class NothingCache:
    """Room for everything, and nothing in it."""

    free = None

    def rows(self, _first: int, _count: int) -> NothingCache:
        return self

    def reserve(self, _row: int, _positions: int) -> int:
        return STEPS + 100

    def release(self, _row: int) -> None: ...
    def flush(self) -> None: ...
    def scrub(self) -> None: ...
    def copy(self, _source: int, _target: int, _length: int) -> None: ...


class NothingDecoder:
    """A model that computes nothing."""

    device = torch.device("cpu")
    dtype = torch.float32
    masked = False
    in_parts = True
    config = LMConfig(VOCABULARY, VOCABULARY, 8, 1, 1, 1, STEPS + 100, 1e-6, 1e4, True)

    def new_cache(self, _rows: int, _positions: int) -> NothingCache:
        return NothingCache()

    def prefill(self, parts: list[list[int]], *_more: object) -> Tensor:
        return torch.zeros(len(parts), 8)

    def step(self, ids: Tensor, *_more: object) -> Tensor:
        return torch.zeros(len(ids), 8)

    def head(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda hidden: torch.zeros(len(hidden), len(ids))


class NothingGraphs:
    """In the place of captured steps: replays at no cost, and notes this thread's CPU seconds."""

    def __init__(
        self,
        times: list[float],
        _advance: object,
        _draw: object,
        sizes: Sequence[int],
        _lengths: object,
    ) -> None:
        self._times = times
        self._tokens = torch.full((max(sizes),), 7)

    def step(self, count: int, _length: int) -> Tensor:
        self._times.append(time.thread_time())
        return self._tokens[:count]


def microseconds(rows: int, requests: list[SequenceRequest]) -> list[float]:
    """The Python of each step that these requests take in so many slots."""
    lm = NothingDecoder()
    scheduler = Scheduler(lm, rows)
    batch = scheduler._batch
    times: list[float] = []
    head = scheduler._heads.pin(EVERYTHING, 3)
    lm.device = torch.device("cuda")
    with patch.object(device_batch, "CudaGraphs", partial(NothingGraphs, times)):
        batch.capture(head)
    lm.device = torch.device("cpu")
    scheduler._lag = 1
    scheduler._prompts.budget = scheduler._waiting._budget = CHUNKS
    for sequence in scheduler.submit(requests, SPEECH, Sampling()):
        sequence.wait()
    thread = scheduler._thread
    if thread is not None:
        thread.join()
    return [1e6 * (after - before) for before, after in pairwise(times)]


def main() -> None:
    for rows in (1, 8, 32, 64):
        steady = microseconds(
            rows, [SequenceRequest((1, 2, 3), f"{n}", STEPS) for n in range(rows)]
        )
        sentences = [
            SequenceRequest((1,) * (50 + n * 37 % 200), f"{n}", 150 + n * 53 % 200)
            for n in range(12 * rows)
        ]
        busy = microseconds(rows, sentences)
        sys.stdout.write(
            f"{rows:3} sequences: {statistics.median(steady):6.1f} us of Python a step; "
            f"{statistics.mean(busy):6.1f} us where sentences of 5 s come and go\n"
        )


if __name__ == "__main__":
    main()
