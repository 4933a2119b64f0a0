"""A lock that is handed on in order: one at a time, none passed over, free after a failure."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import until
from worker.speech.fair_lock import FairLock


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
    assert entered.wait(5)
    thread.join(5)
