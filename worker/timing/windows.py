"""Windows of several jobs through a CTC model in one run: what waits for a GPU goes together.

One window leaves a GPU idle, most of the time is the launching of its kernels, and a length that is
new costs cuDNN a plan for each convolution. So windows are filled with silence to one of a few
lengths, and as many as wait run together. The silence changes nothing that is heard: attention is
told where a window ends, and so is a norm over time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
# Samples [rows, n] and how many of each row are the window's -> logits [rows, frames, letters]
PaddedForward = Callable[[Tensor, Sequence[int]], Tensor]
Waiting = tuple[Tensor, Future[Tensor]]  # samples [n], and their logits to come
SECOND = 16_000  # samples
_LENGTHS = tuple(SECOND * n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64))
_MOST = 32 * SECOND  # samples of a batch, with the silence: 210 MB in the first convolution
_ROWS = (16, 8, 4, 2, 1)  # of a batch


class Lane(Protocol):
    """Runs work of many threads on a GPU, one after the other."""

    def do(self, work: Callable[[], T]) -> T:
        """Run `work` when all work before it is done, and give its result."""


class Windows:
    """Has the windows that wait run together on a lane."""

    def __init__(self, forward: PaddedForward, frames: Callable[[int], int], lane: Lane) -> None:
        """`frames` says how many frames a window of so many samples has."""
        self._forward = forward
        self._frames = frames
        self._lane = lane
        self._lock = Lock()
        self._waiting: list[Waiting] = []

    def logits(self, samples: Tensor) -> Tensor:
        """Logits [1, frames, letters] of samples [n], both on the CPU."""
        logits: Future[Tensor] = Future()
        with self._lock:
            self._waiting.append((samples, logits))
            first = len(self._waiting) == 1
        if first:  # whoever comes until the lane is free is served with this one
            try:
                self._lane.do(self._serve)
            except BaseException as error:
                self._fail(error)
                raise
        return logits.result()

    def _serve(self) -> None:
        waiting = self._taken()
        for batch in batches([len(samples) for samples, _ in waiting]):
            self._run([waiting[i] for i in batch])

    def _fail(self, error: BaseException) -> None:
        """Of a lane that is no more."""
        for _, logits in self._taken():
            logits.set_exception(error)

    def _taken(self) -> list[Waiting]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _run(self, batch: Sequence[Waiting]) -> None:
        try:
            found = self._together([samples for samples, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
        else:
            for (_, logits), row in zip(batch, found, strict=True):
                logits.set_result(row)
            return
        for one in batch:  # the memory that was not enough for all may be for each
            self._run([one])

    def _together(self, windows: Sequence[Tensor]) -> list[Tensor]:
        sizes = [len(window) for window in windows]
        length = padded(max(sizes))
        filled = torch.stack(
            [torch.nn.functional.pad(window, (0, length - len(window))) for window in windows]
        )
        with torch.inference_mode():
            logits = self._forward(filled, sizes).float().cpu()
        return [row[None, : self._frames(size)] for row, size in zip(logits, sizes, strict=True)]


def padded(samples: int) -> int:
    """The length to which a window of so many samples is filled."""
    most = _LENGTHS[-1]
    return next((n for n in _LENGTHS if n >= samples), -(-samples // most) * most)


def batches(sizes: Sequence[int]) -> list[list[int]]:
    """Which windows of these numbers of samples run together, as indices.

    Those of one length when filled, a number of _ROWS at once, at most _MOST samples.
    """
    alike: dict[int, list[int]] = {}
    for i, size in enumerate(sizes):
        alike.setdefault(padded(size), []).append(i)
    found = []
    for length, rows in alike.items():
        while rows:
            count = next(n for n in _ROWS if n == 1 or (n <= len(rows) and n * length <= _MOST))
            found.append(rows[:count])
            del rows[:count]
    return found
