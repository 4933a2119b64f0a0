"""The codec's work, on a CPU and on a GPU: where memory was short it is done once more."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.support.waiting import until
from worker.errors import MemoryShortError
from worker.speech import device as device_module
from worker.speech.codec_runner import CodecRunner
from worker.speech.fair_lock import FairLock


class Work:
    """Fails so many times for want of memory, then gives 7; knows in which thread it ran."""

    def __init__(self, short: int) -> None:
        self._short = short
        self.threads: list[str] = []

    def __call__(self) -> int:
        self.threads.append(threading.current_thread().name)
        if len(self.threads) <= self._short:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 7


@pytest.mark.parametrize(
    ("device", "decoding", "listening"),
    [("cpu", "MainThread", "MainThread"), ("cuda", "MainThread", "listening_0")],
)
def test_work_that_was_short_of_memory_is_done_once_more_and_no_third_time(
    monkeypatch: pytest.MonkeyPatch, device: str, decoding: str, listening: str
) -> None:
    """The GPU is a name here."""
    monkeypatch.setattr(device_module, "stream_on", lambda _device: None)
    runner = CodecRunner(torch.device(device), FairLock())
    decode, listen = Work(1), Work(1)
    assert runner.decode(decode) == 7
    assert runner.listen(listen, "a reference") == 7
    assert decode.threads == [decoding] * 2
    assert listen.threads == [listening] * 2
    with pytest.raises(MemoryShortError, match="for the audio of a sentence, even alone"):
        runner.decode(Work(2))
    with pytest.raises(MemoryShortError, match="for a reference, even alone"):
        runner.listen(Work(2), "a reference")


@pytest.mark.parametrize(("device", "waits"), [("cpu", True), ("cuda", False)])
def test_on_a_cpu_decoding_waits_for_the_lock_and_listening_does_not(
    monkeypatch: pytest.MonkeyPatch, device: str, waits: bool
) -> None:
    monkeypatch.setattr(device_module, "stream_on", lambda _device: None)
    lock = FairLock()
    runner = CodecRunner(torch.device(device), lock)
    with ThreadPoolExecutor(1) as thread:
        with lock:
            decoded = thread.submit(runner.decode, Work(0))
            assert runner.listen(Work(0), "a reference") == 7
            if waits:
                until(lambda: lock._queue)
            else:
                assert decoded.result(10) == 7
            assert decoded.done() is not waits
        assert decoded.result(10) == 7
