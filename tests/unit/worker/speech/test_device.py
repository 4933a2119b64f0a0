"""What a process shares of a GPU, as far as it shows without one."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.support.dry_gpu import dry_gpu
from worker import cpu_info
from worker.speech import device
from worker.speech.device import (
    capturing,
    empty_cache,
    has_fast_bfloat16,
    holding,
    on,
    on_device,
    send,
    stream_on,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ({"fma", "avx512_bf16"}, True),
        ({"fma", "amx_bf16"}, True),
        ({"avx512_vnni", "amx_int8"}, False),
        (set(), False),
    ],
)
def test_a_cpu_is_fast_in_bfloat16_with_instructions_of_either_kind(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], fast: bool
) -> None:
    monkeypatch.setattr(cpu_info, "flags", lambda: flags)
    assert has_fast_bfloat16(CPU) is fast


def test_on_a_cpu_there_are_no_streams() -> None:
    assert stream_on(CPU) is None
    with on(None):
        assert torch.zeros(1).device == CPU


def test_a_stream_waits_for_what_was_queued_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are still being copied, above all. The GPU is a name here."""
    seen: list[object] = []

    class Stream:
        def __init__(self, where: torch.device, priority: int) -> None:
            seen.append((where, priority))

        def wait_stream(self, other: object) -> None:
            seen.append(other)

    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: "current")
    assert isinstance(stream_on(gpu, device.FIRST), Stream)
    assert seen == [(gpu, -1), "current"]  # a lower number goes first


def test_numbers_come_to_the_device_as_they_are() -> None:
    assert on_device([3, 1, 2], CPU).tolist() == [3, 1, 2]
    assert on_device([3], CPU).dtype == torch.long
    assert on_device([], CPU).dtype == torch.long


def test_what_is_sent_stands_where_it_was_sent_to() -> None:
    target = torch.zeros(3, 4, dtype=torch.long)
    send(torch.tensor([5, 6, 7]), target[:, 1])
    assert target.tolist() == [[0, 5, 0, 0], [0, 6, 0, 0], [0, 7, 0, 0]]


@pytest.mark.parametrize("way", [1, (slice(None), 1)], ids=["a row", "a column"])
def test_nothing_waits_until_it_is_sent_to_a_gpu(way: int | tuple[slice, int]) -> None:
    with dry_gpu() as gpu:
        target = torch.zeros(3, 4, device="cuda")[way]
        with gpu.unsynchronised():
            send(torch.ones(target.shape), target)
        assert bool((target == 1).all())


@pytest.mark.parametrize(("wanted", "size"), [(0, 1), (1, 1), (2, 4), (4, 4), (5, 9), (9, 9)])
def test_the_smallest_size_that_holds_it_is_taken(wanted: int, size: int) -> None:
    assert holding((1, 4, 9), wanted) == size
    uniforms = torch.rand(4, dtype=torch.float64)
    assert torch.equal(on_device(uniforms, CPU), uniforms)


def test_memory_is_given_back_after_a_capture_and_not_during_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []
    asked = threading.Event()

    def give_back() -> None:
        asked.set()
        empty_cache()

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    thread = threading.Thread(target=give_back)
    with capturing():
        thread.start()
        asked.wait(10)
        thread.join(0.05)
        assert given == []
    thread.join(10)
    assert given == ["back"]


def test_a_capture_that_fails_lets_memory_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    with pytest.raises(RuntimeError), capturing():
        raise RuntimeError
    empty_cache()
    assert given == ["back"]
