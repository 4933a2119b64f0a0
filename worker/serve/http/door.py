"""The door's state: whether it is open, who is inside, and the threads that do their work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from worker.errors import BusyError
from worker.logs import event
from worker.serve.http.answers import DoorClosedError
from worker.serve.http.request_id import request_id as current_id
from worker.serve.http.running import Done, Running, T, Work
from worker.serve.start_stages import StartStages
from worker.settings import Settings

if TYPE_CHECKING:  # they import torch, which is not there yet when the door begins to listen
    from worker.components import Components

__all__ = ["Door", "Running", "State", "Work"]


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

    def __init__(self, settings: Settings, stages: StartStages | None = None) -> None:
        self.settings = settings
        self._stages = stages  # of the worker's start, for its first request
        self.state = State.LOADING
        self.reason: str | None = None  # why the worker ends
        self.broken = False  # whether the worker ends since it cannot go on
        self.draining = asyncio.Event()  # from when on no more requests are taken
        self.ended = asyncio.Event()  # when the door is shut and nobody is inside
        self.end_at = 0.0  # by the loop's clock, when the drain is over
        self._components: Components | None = None
        self.limit = settings.http_max_requests or 1  # requests at the same time
        self._inside: set[Running[Any]] = set()
        self._listeners: list[Callable[[Done], None]] = []
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
            raise self.closed()
        return self._components

    @property
    def loaded(self) -> Components | None:
        """What was loaded, also while the worker ends."""
        return self._components

    def closed(self) -> DoorClosedError:
        """Why no request is taken."""
        reason = "is loading its model" if self.state is State.LOADING else "is ending"
        return DoorClosedError(f"this worker {reason}; send the request again in a moment")

    @property
    def open_requests(self) -> int:
        """How many requests are being worked on."""
        return len(self._inside)

    def start(self, work: Work[T], request_id: str | None = None) -> Running[T]:
        """Begin a request's work in a thread of its own; whoever calls this closes it in the end.

        Its id is the request's where none is given. Raises DoorClosedError where no requests are
        taken, BusyError where too many are inside.
        """
        components = self.components
        if len(self._inside) >= self.limit or self._threads is None:
            raise BusyError(
                f"{len(self._inside)} requests are being answered, as many as this worker takes "
                "at once; send it again in a moment"
            )
        seconds = self.settings.http_seconds
        running = Running(self, work, components, request_id or current_id(), seconds)
        if self._stages is not None:
            running.watch.start = self._stages.accept()
        self._inside.add(running)
        self._threads.submit(running.work)
        return running

    def when_done(self, listener: Callable[[Done], None]) -> None:
        """Have `listener` called with each request's work that is over."""
        self._listeners.append(listener)

    def leave(self, running: Running[T], done: Done) -> None:
        """Count a request's work as ended; from its thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._left, running, done)

    def _left(self, running: Running[T], done: Done) -> None:
        self._inside.discard(running)
        running.left()
        for listener in self._listeners:
            listener(done)
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
        self.end_at = self._loop.time() + self.settings.drain_seconds
        event(logging.INFO, "draining", reason=reason, jobs=len(self._inside))
        self.draining.set()
        if not self._inside:
            self.ended.set()
            return
        self._loop.call_at(self.end_at, self.cut_off)

    def shut(self) -> None:
        """Shut a door that could not be opened."""
        self.state = State.DRAINING
        self.draining.set()
        self.ended.set()

    def cut_off(self) -> None:
        """End the drain now: what is still inside is given up."""
        if self.state is not State.DRAINING or self.ended.is_set():
            return
        event(logging.INFO, "drained", left_to_the_platform=len(self._inside))
        self.end_at = self._loop.time()
        for running in tuple(self._inside):
            running.cut_off(self.closed())
        self.ended.set()
