"""Shutdown: the jobs under way are drained at SIGTERM, and an end is forced where they hang."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from worker.cancellation import Cancellation
from worker.logs import event

FORCED_END_SECONDS = 10.0  # after the drain, for what does not listen
PR_SET_PDEATHSIG = 1  # prctl(2)


class RunningJobs:
    """Counts the jobs under way, and ends the worker when they are done or their time is up.

    All methods but `give_up` are for the event loop's thread.
    """

    def __init__(
        self, drain_seconds: float = 25.0, on_broken: Callable[[], None] = lambda: None
    ) -> None:
        self._drain_seconds = drain_seconds
        self._on_broken = on_broken
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_taking: Callable[[], None] = lambda: None
        self._drain: asyncio.Task[None] | None = None
        self.reason: str | None = None  # why the worker ends
        self.broken = False  # whether it ends since it cannot go on

    def enter(self, cancellation: Cancellation) -> None:
        """Count the job of the current task, which ends when its answer is sent.

        The end of the task cancels the job, whatever ended it.
        """
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _task: cancellation.cancel())

    @property
    def idle(self) -> bool:
        """Whether no job is under way."""
        return not self._tasks

    def listen_for_the_end(self) -> None:
        """Drain at SIGTERM and SIGINT; to be called in the event loop, once the SDK runs in it.

        The SDK's own handler is still called: it stops the taking of jobs. But alone it would wait
        for the poll that is under way, and lose a job that this brings.
        """
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        sdk_handler = signal.getsignal(signal.SIGTERM)
        if callable(sdk_handler):
            self._stop_taking = lambda: _call(sdk_handler)
        for name in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(name, self._end, signal.Signals(name).name)
        # A signal that came after the SDK's handler was set and before ours has reached it alone.
        alive = getattr(getattr(sdk_handler, "__self__", None), "is_alive", None)
        if alive is not None and not alive():
            self._end(signal.SIGTERM.name)

    def give_up(self, reason: str) -> None:
        """Drain and end the worker since it cannot go on; from any thread."""
        if self._loop is not None:
            self.broken = True
            self._on_broken()
            self._loop.call_soon_threadsafe(self._end, reason)

    def _end(self, reason: str) -> None:
        if self._drain is not None:
            return
        self.reason = reason
        event(logging.INFO, "draining", reason=reason, jobs=len(self._tasks))
        self._stop_taking()
        self._drain = asyncio.get_running_loop().create_task(self._wait_and_end())
        # For a thread that hangs in a driver. As a daemon it does not hold up a good end.
        forced = threading.Timer(self._drain_seconds + FORCED_END_SECONDS, _end_by_force)
        forced.daemon = True
        forced.start()

    async def _wait_and_end(self) -> None:
        """Wait for the jobs, leave the rest to the platform, and end the SDK's loop."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_seconds
        # The SDK begins what it has already taken within a tenth of a second.
        await asyncio.sleep(0.2)
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left)
        event(logging.INFO, "drained", left_to_the_platform=len(self._tasks))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # of a job that is cancelled the SDK sends no answer


def end_forks_with_this_process() -> None:
    """Have the kernel end what this process forks, such as the SDK's pings, when it is killed.

    Pings that went on would name the killed worker's jobs, and RunPod would wait for them.
    """
    parent, libc = os.getpid(), ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has been killed meanwhile
            os._exit(1)

    os.register_at_fork(after_in_child=in_child)


def _call(handler: Callable[[int, FrameType | None], object]) -> None:
    handler(signal.SIGTERM, None)


def _end_by_force() -> None:
    event(logging.ERROR, "ended by force")
    for child in multiprocessing.active_children():  # else the SDK's pings would go on without us
        child.terminate()
    os._exit(1)
