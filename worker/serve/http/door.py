"""The door's state: whether it is open, who is inside, and the threads that do their work."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from worker.cancellation import Cancellation
from worker.components import Components
from worker.errors import (
    BusyError,
    DeviceError,
    JobCancelledError,
    WorkerError,
)
from worker.job.context import Job
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.http.answers import DoorClosedError, TooSlowError
from worker.serve.http.pipe import Pipe
from worker.settings import Settings
from worker.stopwatch import Stopwatch
from worker.temp_folders import temp_prefix

T = TypeVar("T")
Work = Callable[[Job], Iterator[T]]  # what a request's thread does: gives its items in order


class State(Enum):
    """Whether requests are taken."""

    LOADING = 204
    READY = 200
    DRAINING = 503

    @property
    def health(self) -> int:
        """The HTTP status that a load balancer reads."""
        return int(self.value)


class Door:
    """What all routes share. Its methods are for the event loop's thread, but for `give_up`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State.LOADING
        self.reason: str | None = None  # why the worker ends
        self.broken = False  # whether the worker ends since it cannot go on
        self.ended = asyncio.Event()  # when the door is shut and nobody is inside
        self._components: Components | None = None
        self.limit = settings.http_max_requests or 1  # requests at the same time
        self._inside: set[Running[Any]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._loop = asyncio.get_running_loop()

    def open(self, components: Components) -> None:
        """Take requests from now on, where the worker does not end meanwhile."""
        self.limit = self.settings.http_max_requests or components.engine.slots
        # Twice as many: work that was given up may still be on its way out.
        self._threads = ThreadPoolExecutor(2 * self.limit, "request")
        self._components = components
        if self.state is State.LOADING:
            self.state = State.READY

    @property
    def components(self) -> Components:
        """What was loaded. Raises DoorClosedError before, and while the worker ends."""
        if self._components is None or self.state is not State.READY:
            reason = "is loading its model" if self.state is State.LOADING else "is ending"
            raise DoorClosedError(f"this worker {reason}; send the request again in a moment")
        return self._components

    @property
    def open_requests(self) -> int:
        """How many requests are being worked on."""
        return len(self._inside)

    def start(self, work: Work[T], request_id: str | None = None) -> Running[T]:
        """Begin a request's work in a thread of its own.

        Raises DoorClosedError where no requests are taken, BusyError where too many are inside.
        """
        components = self.components
        if len(self._inside) >= self.limit or self._threads is None:
            raise BusyError(
                f"{len(self._inside)} requests are being answered, as many as this worker takes "
                "at once; send it again in a moment"
            )
        running = Running(self, work, components, request_id or f"http-{uuid.uuid4().hex}")
        self._inside.add(running)
        self._threads.submit(running.work)
        running.deadline = self._loop.call_later(self.settings.http_seconds, running.time_out)
        return running

    def leave(self, running: Running[T]) -> None:
        """Count a request's work as ended; from its thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._left, running)

    def _left(self, running: Running[T]) -> None:
        self._inside.discard(running)
        if running.deadline is not None:
            running.deadline.cancel()
        if self.state is State.DRAINING and not self._inside:
            self.ended.set()

    # The end

    def give_up(self, reason: str) -> None:
        """End the worker since it cannot go on; from any thread."""
        self.broken = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.drain, reason)

    def drain(self, reason: str) -> None:
        """Take no more requests; those inside have DRAIN_SECONDS to end."""
        if self.state is State.DRAINING:
            return
        self.state = State.DRAINING
        self.reason = reason
        event(logging.INFO, "draining", reason=reason, jobs=len(self._inside))
        if not self._inside:
            self.ended.set()
            return
        self._loop.call_later(self.settings.drain_seconds, self._cut_off)

    def _cut_off(self) -> None:
        event(logging.INFO, "drained", left_to_the_platform=len(self._inside))
        for running in tuple(self._inside):
            running.close()
        self.ended.set()


class Running(Generic[T]):
    """One request's work, in a thread, with its items on their way to the event loop."""

    def __init__(self, door: Door, work: Work[T], components: Components, request_id: str) -> None:
        self.id = request_id
        self.watch = Stopwatch()
        self.cancellation = Cancellation()
        self.deadline: asyncio.TimerHandle | None = None
        self._door = door
        self._work = work
        self._components = components
        self._pipe: Pipe[T] = Pipe()
        self._timed_out = False

    # In the thread

    def work(self) -> None:
        """Do the work. Never raises; leaves no temporary file."""
        error: WorkerError | None = None
        with lines_of(self.id):
            try:
                with TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True) as name:
                    job = Job(self.id, self._components, Path(name), self.cancellation, self.watch)
                    job.cancellation.check()
                    for item in self._work(job):
                        self._pipe.put(item)
            except Exception as failure:
                error = self._failed(failure)
            finally:
                self._pipe.end(error)
                self._door.leave(self)

    def _failed(self, failure: Exception) -> WorkerError:
        """Log the failure, and give what the client is told; a broken GPU ends the worker."""
        shown = for_the_user(failure, self.id)
        if isinstance(shown, JobCancelledError):
            event(logging.INFO, "job cancelled", seconds=self.watch.total)
            if self._timed_out:
                seconds = self._door.settings.http_seconds
                return TooSlowError(f"the request took longer than {seconds} s; divide the text")
            return shown
        broken = isinstance(shown, DeviceError)
        event(
            logging.WARNING if shown is failure and not broken else logging.ERROR,
            "job failed",
            cause=None if shown is failure else failure,
            code=shown.code,
            field=shown.field,
            error=shown.message,
            seconds=self.watch.total,
        )
        if broken:
            self._door.give_up(f"{shown.code}: {shown.message}")
        return shown

    # In the event loop

    async def first(self, request: Request) -> T | None:
        """Wait for the first item; None where there is none. Raises the work's WorkerError.

        A client that goes away meanwhile ends the work.
        """
        kept = False
        getting = asyncio.ensure_future(self._pipe.get())
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({getting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            kept = getting.done() and getting.exception() is None
            if getting.done():
                return getting.result()
        finally:
            if not kept:
                self.close()
            getting.cancel()
            leaving.cancel()
        raise JobCancelledError("the client has gone away")

    async def next(self) -> T | None:
        """Wait for the next item; None after the last. Raises the work's WorkerError."""
        return await self._pipe.get()

    def close(self) -> None:
        """Nobody waits any more: what is not done is given up."""
        self.cancellation.cancel()
        self._pipe.close()

    def time_out(self) -> None:
        """Give the work up since it took too long."""
        self._timed_out = True
        self.close()


async def _left(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
