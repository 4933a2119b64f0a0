"""Jobs under way, and how the worker drains and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.events import Events
from worker.cancellation import Cancellation
from worker.serve import shutdown
from worker.serve.shutdown import RunningJobs


def test_the_end_of_a_task_cancels_its_job() -> None:
    """Also where the SDK's task ends while a generator waits to be asked for more."""
    cancellation = Cancellation()

    async def job(running: RunningJobs) -> None:
        running.enter(cancellation)
        await asyncio.sleep(60)

    async def cancelled() -> bool:
        running = RunningJobs()
        task = asyncio.create_task(job(running))
        await asyncio.sleep(0)
        assert not running.idle
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return running.idle

    assert asyncio.run(cancelled())
    assert cancellation.cancelled


class LastResort:
    """In place of the timer that ends the process."""

    made: ClassVar[list[LastResort]] = []

    def __init__(self, seconds: float, then: object) -> None:
        self.seconds, self.then = seconds, then
        self.daemon = self.started = False
        self.made.append(self)

    def start(self) -> None:
        self.started = self.daemon  # one that is no daemon holds up a good end


@pytest.fixture
def last_resort(monkeypatch: pytest.MonkeyPatch) -> list[LastResort]:
    monkeypatch.setattr(LastResort, "made", [])
    monkeypatch.setattr("worker.serve.shutdown.threading.Timer", LastResort)
    return LastResort.made


@pytest.fixture
def theirs() -> Iterator[list[tuple[object, ...]]]:
    """The calls of the handler that the SDK has set."""
    calls: list[tuple[object, ...]] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    for name in before:
        signal.signal(name, lambda *given: calls.append(given))
    yield calls
    for name, handler in before.items():
        signal.signal(name, handler)


class Sdk:
    """The SDK's loop: jobs, and a poll that is held until the worker's end."""

    def __init__(self, running: RunningJobs) -> None:
        self.running = running
        self.events: list[str] = []

    async def job(self, name: str, seconds: float, then: Coroutine[Any, Any, None] | None = None):
        self.running.enter(Cancellation())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.events.append(f"{name} cancelled")
            raise
        if then is not None:
            self.tasks.append(asyncio.create_task(then))
            await asyncio.sleep(0)  # it enters before this one ends
        self.events.append(f"{name} answered")

    def run(self, jobs: list[Coroutine[Any, Any, None]], end: Callable[[], None]) -> None:
        async def loop() -> None:
            self.running.listen_for_the_end()
            self.running.listen_for_the_end()  # again, as at each look of the modifier
            self.tasks = [asyncio.create_task(job) for job in jobs]
            await asyncio.sleep(0)
            end()
            await asyncio.sleep(10)  # the poll

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(loop())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_at_a_signal_no_job_is_taken_and_those_that_run_are_waited_for(
    name: str, last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    sdk = Sdk(RunningJobs(drain_seconds=30))
    told_before: list[list[str]] = []

    def end() -> None:
        for _ in range(2):  # the second changes nothing
            os.kill(os.getpid(), getattr(signal, name))
        told_before.append(list(sdk.events))

    # One ends before the drain begins to wait; one after that, whose end begins another.
    sdk.run([sdk.job("a", 0.01), sdk.job("b", 0.22, sdk.job("c", 0.02))], end)
    assert sdk.events == ["a answered", "b answered", "c answered"]
    assert told_before == [[]]
    assert theirs == [(signal.SIGTERM, None)]
    assert sdk.running.reason == name
    assert not sdk.running.broken
    (last,) = last_resort
    assert (last.seconds, last.then, last.started) == (40, shutdown._end_by_force, True)


def test_a_job_that_was_taken_before_the_signal_and_begins_after_it_is_waited_for(
    last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    """The SDK begins what it has taken within a tenth of a second."""
    sdk = Sdk(RunningJobs(drain_seconds=30))

    async def begins() -> None:
        await asyncio.sleep(0.1)
        sdk.tasks.append(asyncio.create_task(sdk.job("late", 0.15)))

    sdk.run([begins()], lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert sdk.events == ["late answered"]


@pytest.mark.parametrize("drain", [0, 0.21])
def test_when_the_time_is_up_the_rest_is_left_to_the_platform(
    drain: float,
    last_resort: list[LastResort],
    theirs: list[tuple[object, ...]],
    events: Events,
) -> None:
    sdk = Sdk(RunningJobs(drain_seconds=drain))
    sdk.run(
        [sdk.job("short", 0.01), sdk.job("long", 9)],
        lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    assert sdk.events == ["short answered", "long cancelled"]
    assert last_resort[0].seconds == drain + 10
    assert events.of("draining") == [{"reason": "SIGTERM", "jobs": 2}]
    assert events.of("drained") == [{"left_to_the_platform": 1}]


def test_a_broken_worker_asks_for_another_and_ends(
    last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    order: list[str] = []
    running = RunningJobs(drain_seconds=30, on_broken=lambda: order.append("asked"))
    sdk = Sdk(running)

    def give_up() -> None:
        thread = threading.Thread(target=running.give_up, args=["device_failed: the GPU"])
        thread.start()
        thread.join()
        order.append(f"ends: {running.reason}")  # the loop has not come to it yet

    sdk.run([sdk.job("a", 0.01)], give_up)
    assert order == ["asked", "ends: None"]
    assert (running.broken, running.reason) == (True, "device_failed: the GPU")
    assert theirs == [(signal.SIGTERM, None)]
    assert sdk.events == ["a answered"]


def test_where_the_sdk_has_no_loop_nothing_is_given_up() -> None:
    asked: list[bool] = []
    running = RunningJobs(on_broken=lambda: asked.append(True))
    running.give_up("the GPU")
    assert (running.broken, running.reason, asked) == (False, None, [])


def test_an_sdk_without_a_handler_of_its_own(
    last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sdk = Sdk(RunningJobs(drain_seconds=0))
    sdk.run([], lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert sdk.running.reason == "SIGTERM"
    assert not theirs


def test_a_stop_that_only_the_sdk_has_heard_is_a_stop(
    last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    """It came between the SDK's handler and ours; the SDK would poll once more, and lose a job."""

    class Scaler:
        alive = True

        def is_alive(self) -> bool:
            return self.alive

        def handle_shutdown(self, *_given: object) -> None:
            self.alive = False

    scaler = Scaler()
    signal.signal(signal.SIGTERM, scaler.handle_shutdown)
    signal.raise_signal(signal.SIGTERM)
    sdk = Sdk(RunningJobs(drain_seconds=0))
    sdk.run([], lambda: None)
    assert sdk.running.reason == "SIGTERM"


def test_by_default_jobs_have_25_seconds_to_end(
    last_resort: list[LastResort], theirs: list[tuple[object, ...]]
) -> None:
    sdk = Sdk(RunningJobs())
    sdk.run([], lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert last_resort[0].seconds == 35


def test_what_does_not_listen_is_ended_by_force_with_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[object] = []

    class Child:
        def terminate(self) -> None:
            order.append("child")

    monkeypatch.setattr(
        "worker.serve.shutdown.multiprocessing.active_children", lambda: [Child()] * 2
    )
    monkeypatch.setattr("worker.serve.shutdown.os._exit", order.append)
    shutdown._end_by_force()
    assert order == ["child", "child", 1]


HANGS = """
import asyncio, logging, multiprocessing, os, signal, sys, time
from worker.serve import shutdown
from worker.serve.shutdown import RunningJobs
from worker.logs import set_up_logging

def pings():
    time.sleep(60)

set_up_logging("INFO")
shutdown.FORCED_END_SECONDS = 0.3

async def loop():
    multiprocessing.Process(target=pings).start()  # before signals are heard, as the SDK does
    signal.signal(signal.SIGTERM, lambda *_: None)  # the SDK's, in place of one that may be set
    RunningJobs(drain_seconds=0.2).listen_for_the_end()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    time.sleep(60)  # as a call into a driver that does not come back

asyncio.run(loop())
"""


@pytest.mark.slow("starts a process")
def test_a_worker_that_hangs_is_ended_by_force_after_its_drain() -> None:
    """The process itself, whose loop no longer runs, and what it has begun."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS],
        cwd=Path(__file__).parents[4], text=True, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    # The output ends with the last process that has it.
    assert 0.5 <= time.monotonic() - begun < 20
    names = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert names == ["draining", "ended by force"]


def test_what_runs_in_no_task_is_not_counted() -> None:
    """A callback of the loop has no end that could be waited for."""
    jobs, cancellation = RunningJobs(), Cancellation()

    async def call() -> None:
        asyncio.get_running_loop().call_soon(jobs.enter, cancellation)
        await asyncio.sleep(0)

    asyncio.run(call())
    assert jobs.idle
    assert not cancellation.cancelled


@pytest.mark.slow("starts a process")
def test_what_is_forked_ends_with_a_worker_that_is_killed() -> None:
    """The SDK's pings would name its jobs for ever, and the platform would wait for them."""
    script = (
        "import os, signal, time\n"
        "from worker.serve.shutdown import end_forks_with_this_process\n"
        "end_forks_with_this_process()\n"
        "if os.fork() == 0:\n"
        "    time.sleep(20)\n"
        "    print('still here')\n"
        "else:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The output ends with the last process that has it.
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[4], text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""
