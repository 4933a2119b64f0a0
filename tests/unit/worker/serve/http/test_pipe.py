"""The pipe from a thread to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.support.waiting import until, until_async
from worker.errors import JobCancelledError
from worker.serve.http.pipe import Pipe

CLOSED = JobCancelledError("nobody waits")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


async def all_of(pipe: Pipe[int]) -> list[int]:
    got = []
    while (item := await pipe.get()) is not None:
        got.append(item)
    return got


def test_items_come_in_order_then_the_end() -> None:
    async def run() -> list[int]:
        pipe: Pipe[int] = Pipe(limit=3)

        def fill() -> None:
            for number in range(1, 1_000):
                pipe.put(number)
            pipe.end()

        thread = in_thread(fill)
        got = await all_of(pipe)
        assert await pipe.get() is None  # and again
        thread.join()
        return got

    assert asyncio.run(run()) == list(range(1, 1_000))


def test_what_was_put_comes_before_the_error() -> None:
    async def run() -> None:
        pipe: Pipe[int] = Pipe()
        pipe.put(1)
        pipe.end(ValueError("broken"))
        assert await pipe.get() == 1
        with pytest.raises(ValueError, match="broken"):
            await pipe.get()

    asyncio.run(run())


def test_a_full_one_holds_the_thread_until_somebody_reads() -> None:
    async def run() -> None:
        pipe: Pipe[int] = Pipe(limit=2)
        put: list[int] = []

        def fill() -> None:
            for number in range(1, 6):
                pipe.put(number)
                put.append(number)
            pipe.end()

        thread = in_thread(fill)
        await until_async(lambda: put == [1, 2])
        await asyncio.sleep(0.05)
        assert put == [1, 2]
        assert await pipe.get() == 1
        await until_async(lambda: put == [1, 2, 3])
        assert await all_of(pipe) == [2, 3, 4, 5]
        thread.join()

    asyncio.run(run())


@pytest.mark.parametrize("full", [False, True])
def test_closing_ends_the_thread_and_tells_who_waits(full: bool) -> None:
    async def run() -> None:
        pipe: Pipe[int] = Pipe(limit=1)
        failures: list[Exception] = []
        go = threading.Event()

        def fill() -> None:
            try:
                if full:
                    pipe.put(1)
                else:
                    go.wait(10)
                pipe.put(2)
            except JobCancelledError as error:
                failures.append(error)
            pipe.end(ValueError("of the thread, which comes too late"))

        thread = in_thread(fill)
        if full:
            await until_async(lambda: bool(pipe._items))
        waiting = None if full else asyncio.ensure_future(pipe.get())
        await asyncio.sleep(0.01)
        pipe.close(CLOSED)
        go.set()
        if waiting is not None:
            with pytest.raises(JobCancelledError, match="nobody waits"):
                await waiting
        thread.join(10)
        assert len(failures) == 1
        with pytest.raises(JobCancelledError, match="nobody waits"):
            await pipe.get()

    asyncio.run(run())


def test_a_thread_that_outlives_the_event_loop_ends() -> None:
    pipes: list[Pipe[int]] = []

    async def run() -> None:
        pipes.append(Pipe(limit=1))

    asyncio.run(run())
    failures: list[Exception] = []

    def fill() -> None:
        try:
            for number in range(3):
                pipes[0].put(number)
        except JobCancelledError as error:
            failures.append(error)

    thread = in_thread(fill)
    until(lambda: not thread.is_alive())
    assert len(failures) == 1
