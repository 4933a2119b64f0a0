"""Captured steps, on a stand-in for CUDA: what is captured, in which order, and what serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from worker.speech.graphs import LENGTHS, SIZES, Graphs, holding


class Stream:
    """Counts nothing, waits for nobody."""

    def __init__(self, events: list[object]) -> None:
        self._events = events

    def wait_stream(self, other: object) -> None:
        self._events.append("wait" if other is not self else "wait for itself")


class Captured:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self, events: list[object]) -> None:
        self.events = events
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What happens, in order: ("run", size, length), ("capture", size, length), waits."""
    events: list[object] = []
    current, side = Stream(events), Stream(events)

    @contextmanager
    def capturing(graph: Captured, pool: object, stream: object, **more: object) -> Iterator[None]:
        assert (pool, stream, more) == ("pool", side, {"capture_error_mode": "thread_local"})
        first = len(events)
        yield
        events[first:] = [("capture", *event[1:]) for event in events[first:]]

    monkeypatch.setattr(torch.cuda, "Stream", lambda: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Captured(events))
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    return events


def captured(cuda: list[object], slots: int, positions: int) -> Graphs:
    """Of a step whose tokens say its size, its length and the place."""

    def step(size: int, length: int) -> torch.Tensor:
        cuda.append(("run", size, length))
        return torch.arange(size) + 1000 * size + 100_000 * length

    return Graphs(step, slots, positions)


def test_the_sizes_and_lengths_that_are_captured() -> None:
    assert SIZES == (1, 2, 4, 8, 16, 32, 64)
    assert LENGTHS == (512, 1024, 2048, 4096)


@pytest.mark.parametrize(
    ("wanted", "most", "found"),
    [(1, 4, 1), (2, 4, 2), (3, 4, 4), (4, 4, 4), (5, 4, None), (3, 3, None), (5, 99, None)],
)
def test_the_smallest_that_holds_is_taken(wanted: int, most: int, found: int | None) -> None:
    assert holding((1, 2, 4), wanted, most) == found


def test_each_size_is_run_once_and_captured_the_largest_first(cuda: list[object]) -> None:
    captured(cuda, 4, 1024)
    assert cuda == [
        "wait",
        *(
            (what, size, length)
            for size in (4, 2, 1)
            for length in (1024, 512)
            for what in ("run", "capture")
        ),
        "wait",
    ]


@pytest.mark.parametrize(
    ("slots", "positions", "sizes", "lengths"),
    [(3, 1023, {1, 2}, {512}), (1, 511, set(), set()), (5, 4096, {1, 2, 4}, set(LENGTHS))],
)
def test_no_more_is_captured_than_there_is_room_for(
    cuda: list[object], slots: int, positions: int, sizes: set[int], lengths: set[int]
) -> None:
    captured(cuda, slots, positions)
    runs = [event for event in cuda if isinstance(event, tuple)]
    assert {run[1] for run in runs} == sizes
    assert {run[2] for run in runs} == lengths


@pytest.mark.parametrize(
    ("count", "length", "size", "sight"),
    [
        (1, 1, 1, 512),
        (2, 512, 2, 512),
        (3, 513, 4, 1024),
        (4, 2048, 4, 2048),
        (3, 2047, 4, 2048),
    ],
)
def test_a_step_is_replayed_in_the_smallest_that_holds_it(
    cuda: list[object], count: int, length: int, size: int, sight: int
) -> None:
    graphs = captured(cuda, 4, 2048)
    cuda.clear()
    tokens = graphs.replay(count, length)
    assert tokens is not None
    assert tokens.tolist() == [place + 1000 * size + 100_000 * sight for place in range(count)]
    assert cuda == []  # nothing is run anew
    replayed = {key: graph.replayed for key, (graph, _tokens) in graphs._steps.items()}
    assert [key for key, times in replayed.items() for _ in range(times)] == [(size, sight)]


@pytest.mark.parametrize(("count", "length"), [(5, 1), (6, 512), (1, 1025), (6, 9000), (2, 4097)])
def test_what_no_captured_size_holds_is_left_to_the_caller(
    cuda: list[object], count: int, length: int
) -> None:
    graphs = captured(cuda, 6, 2000)
    assert graphs.replay(count, length) is None
    assert not any(graph.replayed for graph, _tokens in graphs._steps.values())
