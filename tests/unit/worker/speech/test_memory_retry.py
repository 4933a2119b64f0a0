"""Where memory is short: smaller pieces, then alone, then an error in words; the rest goes on."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.events import Events
from tests.support.waiting import until
from worker.errors import DeviceError, MemoryShortError
from worker.logs import log
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.device_errors import PLENTY
from worker.speech.memory_retry import MemoryRetry

SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Memory:
    """Stands before a network and lets inputs of at most `longest` positions through."""

    def __init__(self, network: Callable[..., torch.Tensor], longest: int) -> None:
        self._network = network
        self.longest = longest
        self.asked: list[int] = []

    def __call__(self, inputs: torch.Tensor, *more: Any) -> torch.Tensor:
        self.asked.append(inputs.shape[-1])
        if inputs.shape[-1] > self.longest:
            raise torch.OutOfMemoryError(str(SHORT))
        return self._network(inputs, *more)


@pytest.fixture(params=["prenet", "decoder"])
def short(request: pytest.FixtureRequest, tiny_checkpoint: Any) -> tuple[Codec, Memory]:
    """A codec, and the memory that one of its networks has."""
    codec = Codec.load(Checkpoint(tiny_checkpoint), find_upstream(), torch.device("cpu"))
    network = getattr(codec._bicodec, request.param)
    memory = Memory(network.forward, 1 << 30)
    network.forward = memory
    return codec, memory


def tokens(codec: Codec, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rng = np.random.default_rng(count)
    sizes = codec.sizes
    voice = rng.integers(0, sizes.global_codes, sizes.voice_length)
    return tuple(voice.tolist()), tuple(rng.integers(0, sizes.semantic_codes, count).tolist())


def test_shorter_windows_give_the_same_audio(short: tuple[Codec, Memory]) -> None:
    codec, memory = short
    voice, codes = tokens(codec, 300)
    whole = codec.decode(voice, codes)
    memory.longest = max(memory.asked) // 3
    memory.asked.clear()
    assert np.abs(codec.decode(voice, codes) - whole).max() < 1e-4
    assert max(memory.asked) > memory.longest > min(memory.asked)


def test_a_stream_that_failed_goes_on_where_it_was(short: tuple[Codec, Memory]) -> None:
    codec, memory = short
    voice, codes = tokens(codec, 300)
    whole = codec.decode(voice, codes)
    stream = codec.stream(voice)
    parts = [stream.feed(codes[:100])]
    memory.longest = 0
    for call in (lambda: stream.feed(codes[100:200]), lambda: stream.feed(codes[100:300])):
        with pytest.raises(torch.OutOfMemoryError):
            call()
    memory.longest = 1 << 30
    parts.append(stream.feed(codes[100:300]))
    memory.longest = 0
    with pytest.raises(torch.OutOfMemoryError):
        stream.feed((), last=True)
    memory.longest = 1 << 30
    parts.append(stream.feed((), last=True))
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-4


def test_what_did_not_fit_is_done_again_alone() -> None:
    memory, inside, together = MemoryRetry(), [0], threading.Barrier(4)
    crowds: list[int] = []
    guard = threading.Lock()

    def work(first: list[bool]) -> int:
        with guard:
            inside[0] += 1
        try:
            if not first:
                first.append(True)
                together.wait(10)  # all four are inside
                raise torch.OutOfMemoryError(str(SHORT))
            crowds.append(inside[0])
            return inside[0]
        finally:
            with guard:
                inside[0] -= 1

    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(memory.do, lambda f=[]: work(f), "a test") for _ in range(4)]
        assert [future.result(10) for future in done] == [1, 1, 1, 1]
    assert crowds == [1, 1, 1, 1]


def lets_in(memory: MemoryRetry) -> bool:
    """Whether the next work is done, and not waited for without end."""
    done = threading.Event()
    threading.Thread(target=lambda: memory.do(done.set, "a test"), daemon=True).start()
    return done.wait(20)


def test_while_one_waits_to_be_alone_nobody_comes_in_and_then_all_do() -> None:
    memory, order = MemoryRetry(), []
    go, guard, both = threading.Event(), threading.Lock(), threading.Barrier(2)

    def note(what: str) -> None:
        with guard:
            order.append(what)

    def beside() -> None:
        note("beside in")
        go.wait(10)
        note("beside out")

    def large() -> None:
        note("large in")
        if order.count("large in") == 1:
            raise torch.OutOfMemoryError(str(SHORT))
        time.sleep(0.02)
        note("large out")

    def late() -> None:
        both.wait(10)  # side by side again, not one after the other
        note("late")

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(memory.do, beside, "a test")]
        until(lambda: order)
        asked.append(threads.submit(memory.do, large, "a test"))
        until(lambda: memory._alone)
        asked += [threads.submit(memory.do, late, "a test") for _ in range(2)]
        time.sleep(0.02)
        assert order == ["beside in", "large in"]
        go.set()
        for one in asked:
            one.result(20)
    assert order == [
        "beside in", "large in", "beside out", "large in", "large out", "late", "late"
    ]  # fmt: skip


@pytest.mark.parametrize("error", [SHORT, MemoryError(), RuntimeError("CUDA error: out of memory")])
def test_what_is_short_of_memory_is_done_twice_and_no_more(error: Exception) -> None:
    memory, calls = MemoryRetry(), []

    def short() -> None:
        calls.append((memory._inside, memory._alone))
        raise error

    with pytest.raises(MemoryShortError, match="for a test, even alone"):
        memory.do(short, "a test")
    assert calls == [(1, 0), (1, 1)]  # beside others, then alone
    assert lets_in(memory)


def test_what_fits_is_done_once_and_what_fits_alone_twice() -> None:
    memory, calls = MemoryRetry(), []

    def work() -> int:
        calls.append(1)
        return len(calls)

    assert (memory.do(work, "a test"), calls) == (1, [1])

    def second() -> int:
        if work() == 2:
            raise torch.OutOfMemoryError(str(SHORT))
        return len(calls)

    assert memory.do(second, "a test") == 3


def test_another_failure_of_the_lone_try_is_told_as_it_is() -> None:
    memory, errors = MemoryRetry(), [torch.OutOfMemoryError(str(SHORT)), ValueError("odd")]

    def work() -> None:
        raise errors.pop(0)

    with pytest.raises(ValueError, match="odd"):
        memory.do(work, "a test")
    assert lets_in(memory)


def test_what_was_too_much_is_let_go_and_given_back_before_the_next_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "disabled", True)  # pytest keeps what is logged, tracebacks too
    seen: list[weakref.ref[Any]] = []
    events: list[object] = []

    class Needed:
        """A tensor of the work."""

    def work() -> None:
        needed = Needed()
        seen.append(weakref.ref(needed))
        events.append("work")
        raise torch.OutOfMemoryError(str(SHORT))

    def give_back() -> None:
        events.append([one() for one in seen])

    monkeypatch.setattr(torch.cuda, "empty_cache", give_back)
    with pytest.raises(MemoryShortError):
        MemoryRetry().do(work, "a test")
    assert events == ["work", [None], "work", [None, None]]


def test_what_does_not_fit_alone_is_an_error_and_the_next_one_is_done() -> None:
    memory = MemoryRetry()

    def never() -> None:
        raise torch.OutOfMemoryError(str(SHORT))

    with pytest.raises(MemoryShortError, match="the reference audio, even alone; send the job"):
        memory.do(never, "the reference audio")
    assert memory.do(lambda: 1, "a test") == 1


def test_each_try_that_was_short_is_an_event(events: Events) -> None:
    def never() -> None:
        raise torch.OutOfMemoryError(str(SHORT))

    with pytest.raises(MemoryShortError):
        MemoryRetry().do(never, "a test")
    told = ("WARNING", "out of memory", {"what": "a test", "error": str(SHORT)})
    assert events.with_levels() == [told, told]


def test_a_broken_device_is_not_tried_again() -> None:
    calls = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    memory = MemoryRetry()
    with pytest.raises(RuntimeError, match="illegal"):
        memory.do(broken, "a test")
    assert calls == [1]
    assert memory.do(lambda: 1, "a test") == 1


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (["unable to find an engine"] * 2, DeviceError),
        (["unable to find an engine", "CUDA out of memory"], MemoryShortError),  # the last counts
        (["CUDA out of memory"] * 2, MemoryShortError),
    ],
)
def test_what_only_sounds_like_short_memory_beside_plenty_is_a_broken_device(
    errors: list[str], expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (PLENTY, 80 << 30))
    memory = MemoryRetry()

    def work() -> None:
        raise RuntimeError(errors.pop(0))

    with pytest.raises(expected):
        memory.do(work, "a test")
    assert not errors
    assert lets_in(memory)
