"""Runs the codec's work where and when it may run, and once more where memory was short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

from worker.speech.device import Lane
from worker.speech.fair_lock import NEVER, FairLock
from worker.speech.memory_retry import MemoryRetry

T = TypeVar("T")


class CodecRunner:
    """Runs decoding and listening for many threads.

    On a CPU the language model and the codec each use all cores, so decoding takes turns with the
    language model's steps at `lock`, where what is due goes first; listening, once a job, does not
    wait. A GPU computes for all at once: there listening has a lane, and decoding one of its own
    (codec/codec_batch.py).
    """

    def __init__(self, device: torch.device, lock: FairLock) -> None:
        self.on_gpu = device.type == "cuda"
        self._lock = lock
        self._listening = Lane(device, "listening") if self.on_gpu else None
        self._memory = MemoryRetry()  # that the language model leaves

    def decode(self, work: Callable[[], T], due: float = NEVER) -> T:
        """Run work that makes audio of a sentence. Raises what MemoryRetry.do does.

        `due` is when somebody needs it, by `time.perf_counter`.
        """
        retried = partial(self._memory.do, work, "the audio of a sentence")
        if self.on_gpu:
            return retried()
        with self._lock.due(due):
            return retried()

    def listen(self, work: Callable[[], T], what: str) -> T:
        """Run work that makes tokens of `what`, a reference. Raises what MemoryRetry.do does."""
        retried = partial(self._memory.do, work, what)
        return retried() if self._listening is None else self._listening.do(retried)
