"""A lock that is handed on in order: one at a time, none passed over, free after a failure."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import until
from worker.speech.fair_lock import NEVER, FairLock


def test_who_asked_first_is_let_in_first() -> None:
    turns, order = FairLock(), []

    def enter(n: int) -> None:
        with turns:
            order.append(n)

    with ThreadPoolExecutor(4) as threads:
        with turns:
            waiting = []
            for n in range(4):
                waiting.append(threads.submit(enter, n))
                until(lambda wanted=n + 1: len(turns._queue) == wanted)
            assert order == []
        for one in waiting:
            one.result(10)
    assert order == [0, 1, 2, 3]


def test_whoever_comes_while_the_turn_is_handed_on_waits() -> None:
    turns, go, order = FairLock(), threading.Event(), []

    def second() -> None:
        with turns:
            order.append("second in")
            go.wait(10)
            order.append("second out")

    def third() -> None:
        with turns:
            order.append("third")

    with ThreadPoolExecutor(2) as threads:
        with turns:
            waiting = [threads.submit(second)]
            until(lambda: turns._queue)
        until(lambda: order)
        waiting.append(threads.submit(third))
        time.sleep(0.02)
        go.set()
        for one in waiting:
            one.result(10)
    assert order == ["second in", "second out", "third"]


def test_never_two_at_once() -> None:
    turns, inside, most = FairLock(), [], []

    def work() -> None:
        for _ in range(50):
            with turns:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(work) for _ in range(4)]:
            one.result(10)
    assert (len(most), set(most)) == (200, {1})


def test_a_turn_that_failed_is_handed_on_and_its_error_is_told() -> None:
    turns = FairLock()
    with pytest.raises(ValueError, match="odd"), turns:
        raise ValueError("odd")
    entered = threading.Event()

    def enter() -> None:
        with turns:
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    assert entered.wait(20)
    thread.join(20)


def test_who_is_late_goes_first_the_latest_before_all() -> None:
    turns, order = FairLock(), []
    now = time.perf_counter()

    def enter(name: str, due: float) -> None:
        with turns.due(due):
            order.append(name)

    asks = [("never", NEVER), ("in time", now + 900), ("late", now - 1), ("latest", now - 2)]
    with ThreadPoolExecutor(4) as threads:
        with turns:
            waiting = []
            for count, ask in enumerate(asks, 1):
                waiting.append(threads.submit(enter, *ask))
                until(lambda count=count: len(turns._queue) == count)
        for one in waiting:
            one.result(10)
    assert order == ["latest", "late", "never", "in time"]
    with pytest.raises(ValueError, match="odd"), turns.due(now):
        raise ValueError("odd")
    enter("free again", now)
    assert order[-1] == "free again"
