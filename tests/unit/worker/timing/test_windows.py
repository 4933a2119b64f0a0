"""Windows that wait for the same lane run together, and each gets its own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.waiting import until
from worker.speech.device import Lane
from worker.timing.windows import SECOND, Windows, batches, padded

FRAME = 320


class Ear:
    """A model whose logits are the first sample of each frame; it notes what it ran."""

    def __init__(self, fails: Callable[[Tensor], bool] = lambda _: False) -> None:
        self.ran: list[tuple[int, int]] = []
        self._fails = fails

    def __call__(self, samples: Tensor, sizes: Sequence[int]) -> Tensor:
        self.ran.append((samples.shape[0], samples.shape[1]))
        assert all(not row[size:].any() for row, size in zip(samples, sizes, strict=True))
        if self._fails(samples):
            raise RuntimeError("no memory")
        return samples[:, ::FRAME, None].expand(-1, -1, 5).double()


def ask_at_once(ear: Ear, windows: Sequence[Tensor]) -> list[Future[Tensor]]:
    """Ask in a thread each while the lane is busy, then let it work."""
    lane = Lane(torch.device("cpu"), "lane")
    asked = Windows(ear, lambda samples: samples // FRAME, lane)
    free = Event()
    with ThreadPoolExecutor(len(windows) + 1) as threads:
        threads.submit(lane.do, lambda: free.wait(60))
        found = [threads.submit(asked.logits, window) for window in windows]
        until(lambda: len(asked._waiting) == len(windows))
        free.set()
    return found


def noise(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(size))


def test_what_waits_runs_together_and_each_gets_its_own() -> None:
    ear = Ear()
    windows = [noise(size) for size in (16_001, 20_000, 8_000, 31_999, 32_000)]
    found = ask_at_once(ear, windows)
    assert sorted(ear.ran) == [(1, SECOND), (4, 2 * SECOND)]
    for window, logits in zip(windows, found, strict=True):
        frames = len(window) // FRAME
        assert logits.result().shape == (1, frames, 5)
        assert logits.result().dtype == torch.float32
        assert torch.equal(logits.result()[0, :, 3], window[: frames * FRAME : FRAME])


def test_one_by_one_each_runs_alone() -> None:
    ear = Ear()
    asked = Windows(ear, lambda n: n // FRAME, Lane(torch.device("cpu"), "lane"))
    for size in (400, 16_000, 16_001):
        assert asked.logits(noise(size)).shape[1] == size // FRAME
    assert ear.ran == [(1, SECOND), (1, SECOND), (1, 2 * SECOND)]


def test_where_all_together_fail_each_is_tried_by_itself() -> None:
    ear = Ear(lambda samples: len(samples) > 1)
    found = ask_at_once(ear, [noise(1_000 + i) for i in range(4)])
    assert [logits.result().shape[1] for logits in found] == [3] * 4
    assert [rows for rows, _ in ear.ran] == [4, 1, 1, 1, 1]


def test_a_window_that_fails_fails_alone() -> None:
    windows = [noise(1_000 + i) for i in range(4)]
    bad = windows[2][0]
    found = ask_at_once(Ear(lambda samples: bool((samples[:, 0] == bad).any())), windows)
    with pytest.raises(RuntimeError, match="no memory"):
        found[2].result()
    assert all(found[i].result().shape[1] == 3 for i in (0, 1, 3))


def test_a_lane_that_is_no_more_leaves_nobody_waiting() -> None:
    class Broken:
        def do(self, _work: Callable[[], Any]) -> Any:
            until(lambda: len(asked._waiting) == 3)
            raise RuntimeError("cannot schedule new futures")

    asked = Windows(Ear(), lambda n: n // FRAME, Broken())
    with ThreadPoolExecutor(3) as threads:
        found = [threads.submit(asked.logits, noise(1_000)) for _ in range(3)]
    for logits in found:
        with pytest.raises(RuntimeError, match="cannot schedule"):
            logits.result()


@given(st.lists(st.integers(400, 130 * SECOND), max_size=80))
def test_batches_are_of_few_shapes_and_bounded(sizes: list[int]) -> None:
    found = batches(sizes)
    assert sorted(i for batch in found for i in batch) == list(range(len(sizes)))
    for batch in found:
        (length,) = {padded(sizes[i]) for i in batch}
        assert len(batch) in {1, 2, 4, 8, 16}
        assert len(batch) == 1 or len(batch) * length <= 32 * SECOND


def test_windows_are_filled_to_a_few_lengths() -> None:
    lengths = sorted({padded(n) for n in range(400, 200 * SECOND, 999)})
    assert len(lengths) == 15  # to a minute twelve; beyond it whole ones
    assert all(padded(n) == n for n in lengths)
    assert all(b <= 2 * a for a, b in pairwise(lengths))
