"""A channel between threads: what several of them make, in one order, for one that reads."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Generic, Self, TypeVar

from worker.errors import JobCancelledError

T = TypeVar("T")

LIMIT = 4  # items that wait for a slow reader before their makers do


class Channel(Generic[T]):
    """Carries items to one reader; once that has left the block, makers are told so."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Read no more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def put(self, item: T) -> None:
        """Add an item. Raises JobCancelledError where nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._limit)
            if self._closed:
                raise JobCancelledError("nobody reads any more")
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no item follows, and what went wrong, if anything did; the first call counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Give the items as they come. Raises what they ended with."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def fill(self, items: Generator[T, None, None], name: str) -> None:
        """Add these items from a thread of their own; the channel ends with them."""

        def run() -> None:
            try:
                with closing(items):
                    for item in items:
                        self.put(item)
            except BaseException as error:
                self.end(error)
            else:
                self.end()

        start_thread(run, name)


def start_thread(run: Callable[[], None], name: str) -> None:
    """Run this in a thread whose lines in the log are those of the job that starts it."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
