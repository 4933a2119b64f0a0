"""A pipe from the thread that does a job to the event loop that answers its request."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Condition
from typing import Generic, TypeVar

from worker.errors import JobCancelledError

T = TypeVar("T")

LIMIT = 16  # items that wait for a slow reader before the job does


class Pipe(Generic[T]):
    """Carries items in order. The thread waits for a slow reader, and for nobody once it left."""

    def __init__(self, limit: int = LIMIT) -> None:
        """Made in the event loop that reads."""
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._changed = Condition()
        self._items: deque[T] = deque()
        self._ready = asyncio.Event()
        self._ended = False
        self._closed = False
        self._error: Exception | None = None

    # The thread's side

    def put(self, item: T) -> None:
        """Add an item. Raises JobCancelledError where nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._limit)
            if self._closed:
                raise JobCancelledError("nobody waits for the job any more")
            self._items.append(item)
        self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Say that no item follows, and what went wrong, if anything did; the first word counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop is closed: the worker ends
            self._shut()

    # The event loop's side

    async def get(self) -> T | None:
        """Wait for the next item; None after the last. Raises what the job failed with."""
        while True:
            self._ready.clear()
            with self._changed:
                if self._items:
                    self._changed.notify_all()
                    return self._items.popleft()
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
            await self._ready.wait()

    def close(self, error: Exception) -> None:
        """Read no more: the thread's next put ends it, and who waits here gets the error."""
        self._shut()
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
        self._ready.set()

    def _shut(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
