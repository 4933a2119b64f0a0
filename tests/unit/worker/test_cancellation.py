"""One word for all of a job: said once, heard by all, at once where it has been said."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.cancellation import Cancellation
from worker.errors import JobCancelledError


def test_nothing_is_said_at_first() -> None:
    cancellation, heard = Cancellation(), []
    cancellation.call(lambda: heard.append(1))
    cancellation.check()
    assert (cancellation.cancelled, heard) == (False, [])


def test_each_listener_is_called_once_in_order() -> None:
    cancellation, heard = Cancellation(), []
    for n in range(3):
        cancellation.call(lambda n=n: heard.append(n))
    cancellation.cancel()
    cancellation.cancel()
    assert (cancellation.cancelled, heard) == (True, [0, 1, 2])
    with pytest.raises(JobCancelledError, match="was cancelled"):
        cancellation.check()


def test_a_listener_that_comes_late_is_called_at_once() -> None:
    cancellation, heard = Cancellation(), []
    cancellation.cancel()
    cancellation.call(lambda: heard.append(1))
    assert heard == [1]
    cancellation.cancel()
    assert heard == [1]


def test_a_listener_that_is_taken_back_is_not_called_and_not_kept() -> None:
    cancellation, heard = Cancellation(), []

    def first() -> None:
        heard.append(1)

    kept = weakref.ref(first)
    take_back = cancellation.call(first)
    cancellation.call(lambda: heard.append(2))
    del first
    take_back()
    take_back()
    assert kept() is None
    cancellation.cancel()
    assert heard == [2]
    cancellation.call(lambda: heard.append(3))()
    assert heard == [2, 3]


def test_a_listener_may_ask_and_listen_again() -> None:
    cancellation, heard = Cancellation(), []

    def listener() -> None:
        heard.append(cancellation.cancelled)
        cancellation.call(lambda: heard.append("again"))
        cancellation.cancel()

    cancellation.call(listener)
    thread = threading.Thread(target=cancellation.cancel, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    late = threading.Thread(target=cancellation.call, args=(listener,), daemon=True)
    late.start()
    late.join(20)
    assert not late.is_alive()
    assert heard == [True, "again"] * 2


def test_no_listener_is_missed_or_called_twice_when_all_come_at_once() -> None:
    for _ in range(20):
        cancellation, heard = Cancellation(), []
        ready = threading.Barrier(3)

        def listen(
            cancellation: Cancellation = cancellation,
            heard: list[int] = heard,
            ready: threading.Barrier = ready,
        ) -> None:
            ready.wait(10)
            for n in range(50):
                cancellation.call(lambda n=n: heard.append(n))

        with ThreadPoolExecutor(2) as threads:
            listening = [threads.submit(listen) for _ in range(2)]
            ready.wait(10)
            cancellation.cancel()
            for one in listening:
                one.result(10)
        assert sorted(heard) == sorted([*range(50)] * 2)
