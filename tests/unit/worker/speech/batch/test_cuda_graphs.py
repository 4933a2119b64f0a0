"""Captured steps, on a stand-in for CUDA: what is captured, in which order, and what serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from worker.speech import device
from worker.speech.batch.cuda_graphs import LENGTHS, SIZES, CudaGraphs, up_to
from worker.speech.device import holding


class Captured:
    """Stands for torch.cuda.CUDAGraph: replayed, it notes the work that was captured."""

    def __init__(self, events: list[object]) -> None:
        self._events = events
        self.work: list[object] = []

    def replay(self) -> None:
        self._events.extend(("replay", *work) for work in self.work)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What happens, in order: (what, "advance", size, length), (what, "draw", size), ..."""
    events: list[object] = []

    @contextmanager
    def capturing(graph: Captured, pool: object, stream: object, **more: object) -> Iterator[None]:
        assert (pool, stream, more) == ("pool", "mine", {"capture_error_mode": "thread_local"})
        assert device._allocator.locked()  # nobody gives memory back meanwhile
        first = len(events)
        yield
        graph.work = events[first:]
        events[first:] = [("capture", *event) for event in graph.work]

    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "mine")
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Captured(events))
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(gc, "collect", lambda: events.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: events.append("freeze"))
    return events


def captured(cuda: list[object], slots: int, positions: int, *, masked: bool = True) -> CudaGraphs:
    """Of draws whose tokens say their size and the place."""

    def draw(size: int) -> torch.Tensor:
        cuda.append(("draw", size))
        return torch.arange(size) + 1000 * size

    return CudaGraphs(
        lambda size, length: cuda.append(("advance", size, length)),
        draw,
        up_to(SIZES, slots),
        up_to(LENGTHS if masked else (), positions),
    )


def test_the_sizes_and_lengths_that_are_captured() -> None:
    assert SIZES == (1, 2, 4, 8, 16, 24, 32, 48, 64)
    assert LENGTHS == (512, 1024, 2048, 4096)


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (3, (1, 2, 3)), (4, (1, 2, 4)), (5, (1, 2, 4, 5)), (9, (1, 2, 4, 9))],
)
def test_the_most_that_there_can_be_is_always_one_of_them(
    most: int, sizes: tuple[int, ...]
) -> None:
    assert up_to((1, 2, 4), most) == sizes


@pytest.mark.parametrize("slots", range(1, 65))
def test_every_batch_is_held_by_a_size_that_is_not_much_larger(slots: int) -> None:
    """Whatever the slots: on 16 GB they are 42 to 47, and no power of two."""
    sizes = up_to(SIZES, slots)
    for count in range(1, slots + 1):
        assert count <= holding(sizes, count) <= max(2 * count - 1, count * 4 / 3 + 6)


def test_each_size_is_run_once_and_captured_the_largest_first(cuda: list[object]) -> None:
    captured(cuda, 3, 1024)
    assert cuda == [
        "collect",
        "freeze",
        *(
            event
            for size in (3, 2, 1)
            for length in (1024, 512)
            for what in ((), ("capture",))
            for event in ((*what, "advance", size, length), (*what, "draw", size))
        ),
    ]


def test_where_nothing_is_masked_one_length_serves_all(cuda: list[object]) -> None:
    graphs = captured(cuda, 2, 12_288, masked=False)
    advances = [event for event in cuda if event[:2] == ("capture", "advance")]
    assert advances == [("capture", "advance", 2, 12_288), ("capture", "advance", 1, 12_288)]
    cuda.clear()
    graphs.step(1, 7)
    graphs.step(2, 12_288)
    assert [event for event in cuda if event[1] == "advance"] == [
        ("replay", "advance", 1, 12_288),
        ("replay", "advance", 2, 12_288),
    ]


@pytest.mark.parametrize(
    ("count", "length", "size", "sight"),
    [
        (1, 1, 1, 512),
        (2, 512, 2, 512),
        (3, 513, 4, 1024),
        (4, 2048, 4, 2048),
        (5, 2047, 5, 2048),
        (5, 2049, 5, 3000),
        (1, 3000, 1, 3000),
    ],
)
def test_a_step_is_replayed_in_the_smallest_that_holds_it(
    cuda: list[object], count: int, length: int, size: int, sight: int
) -> None:
    graphs = captured(cuda, 5, 3000)
    cuda.clear()
    tokens = graphs.step(count, length)
    assert cuda == [("replay", "advance", size, sight), ("replay", "draw", size)]
    assert tokens.tolist() == [place + 1000 * size for place in range(count)]
