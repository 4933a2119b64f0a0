"""One request's work: in a thread of its own, its items on their way to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from starlette.requests import Request

from worker.cancellation import Cancellation
from worker.errors import DeviceError, JobCancelledError, WorkerError
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.http.answers import TooSlowError
from worker.serve.http.pipe import Pipe
from worker.stopwatch import Stopwatch
from worker.temp_folders import temp_prefix

if TYPE_CHECKING:  # they import torch, which is not there yet when the door begins to listen
    from worker.api.response import Metrics
    from worker.components import Components
    from worker.job.context import Job

T = TypeVar("T")
Work = Callable[["Job"], Iterator[T]]  # what a request's thread does: gives its items in order

FLUSH_SECONDS = 1.0  # that the end of an answer which was cut off has until its connection is


@runtime_checkable
class Spoken(Protocol):
    """The item that tells what a job has made: the answer of the queue, or a stream's end."""

    duration: float  # seconds

    @property
    def metrics(self) -> Metrics:
        """What the job cost."""


@dataclass(frozen=True)
class Done:
    """A request's work that is over, for who counts."""

    stages: dict[str, float]  # seconds of each
    seconds: float
    metrics: Metrics | None  # where all was spoken
    duration: float  # seconds of audio
    code: str | None  # of the error that it ended with


class Host(Protocol):
    """What work needs of the door that it came through."""

    def leave(self, running: Running[T], done: Done) -> None:
        """Count the work as ended; from its thread."""

    def give_up(self, reason: str) -> None:
        """End the worker since it cannot go on; from any thread."""


class Running(Generic[T]):
    """One request's work. Its methods are for the event loop's thread, but for `work`."""

    def __init__(
        self, host: Host, work: Work[T], components: Components, request_id: str, seconds: float
    ) -> None:
        """Begin to count its `seconds`; `work` is to be called in a thread."""
        self.id = request_id
        self.watch = Stopwatch()
        self.cancellation = Cancellation()
        self._host = host
        self._work = work
        self._components = components
        self._pipe: Pipe[T] = Pipe()
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(seconds, self._time_out, seconds)
        self._answering = False
        self._abort: Callable[[], None] | None = None  # of the connection that is written to

    # In the thread

    def work(self) -> None:
        """Do the work. Never raises; leaves no temporary file."""
        error: WorkerError | None = None
        spoken: Spoken | None = None
        self.watch.add("queue", self.watch.total)  # for this thread
        with lines_of(self.id):
            try:
                spoken = self._do()
            except Exception as failure:
                error = self._failed(failure)
            finally:
                self._pipe.end(error)
                self._host.leave(self, self._done(spoken, error))

    def _do(self) -> Spoken | None:
        """Do the work; give what was spoken, where it says so."""
        from worker.job.context import Job  # noqa: PLC0415

        spoken: Spoken | None = None
        with TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True) as name:
            job = Job(self.id, self._components, Path(name), self.cancellation, self.watch)
            job.cancellation.check()
            for item in self._work(job):
                job.watch.mark("first_byte")
                if isinstance(item, Spoken):
                    spoken = item
                    self._log_answer(item)
                self._pipe.put(item)
        return spoken

    def _log_answer(self, spoken: Spoken) -> None:
        from worker.job.metrics import logged, overhead  # noqa: PLC0415

        event(
            logging.INFO,
            "job answered",
            audio_seconds=spoken.duration,
            seconds=self.watch.total,
            stages=dict(self.watch.seconds),
            overhead=overhead(self.watch),
            metrics=logged(spoken.metrics),
        )

    def _done(self, spoken: Spoken | None, error: WorkerError | None) -> Done:
        return Done(
            stages=dict(self.watch.seconds),
            seconds=self.watch.total,
            metrics=spoken.metrics if spoken is not None else None,
            duration=spoken.duration if spoken is not None else 0.0,
            code=error.code if error is not None else None,
        )

    def _failed(self, failure: Exception) -> WorkerError:
        """Log the failure, and give what the client is told; a broken GPU ends the worker."""
        shown = for_the_user(failure, self.id)
        if isinstance(shown, JobCancelledError):
            event(logging.INFO, "job cancelled", seconds=self.watch.total)
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
            self._host.give_up(f"{shown.code}: {shown.message}")
        return shown

    # In the event loop

    async def first(self, request: Request) -> T | None:
        """Wait for the first item; None where there is none. Raises the work's WorkerError.

        A client that goes away meanwhile ends the work.
        """
        kept = False
        getting = asyncio.ensure_future(self._pipe.get())
        leaving = asyncio.ensure_future(gone(request))
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

    def take_long(self) -> None:
        """Let the work take as long as it likes: a session has limits of its own."""
        self._deadline.cancel()

    def answering(self, abort: Callable[[], None] | None) -> None:
        """Say that items are being sent, and how to break the connection off; then `close`."""
        self._answering, self._abort = True, abort

    def close(self, error: WorkerError | None = None) -> None:
        """Nobody waits any more: what is not done is given up.

        Who waits for an item all the same gets the error.
        """
        self._deadline.cancel()
        self._abort = None
        self._give_up(error or JobCancelledError("nobody waits for the job any more"))

    def cut_off(self, error: WorkerError) -> None:
        """Give the work up: its client is told the error, as far as it still can be."""
        self._give_up(error)
        if self._abort is not None:  # one that does not read would keep its answer open for ever
            self._loop.call_later(FLUSH_SECONDS, self._break_off)

    def left(self) -> None:
        """The thread is done; where an answer is being sent, its time goes on."""
        if not self._answering:
            self._deadline.cancel()

    def _give_up(self, error: WorkerError) -> None:
        self._pipe.close(error)
        self.cancellation.cancel()

    def _break_off(self) -> None:
        if self._abort is not None:
            self._abort()

    def _time_out(self, seconds: float) -> None:
        self.cut_off(TooSlowError(f"the request took longer than {seconds:g} s; divide the text"))


async def gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
