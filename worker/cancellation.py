"""The cancellation of a job, from any thread: nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock

from worker.errors import JobCancelledError


class Cancellation:
    """Set once and never taken back. What waits for the job asks, or is called."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cancelled = False
        self._listeners: dict[object, Callable[[], None]] = {}  # in the order in which they came

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel the job; each listener is called once, in this thread."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener()

    def call(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called when the job is cancelled; at once where it was.

        What it gives takes that back: a job may be long, and would keep all that ever listened.
        """
        mark = object()
        with self._lock:
            if not self._cancelled:
                self._listeners[mark] = listener
                return partial(self._forget, mark)
        listener()
        return partial(self._forget, mark)

    def _forget(self, mark: object) -> None:
        with self._lock:
            self._listeners.pop(mark, None)

    def check(self) -> None:
        """Raise JobCancelledError where the job was cancelled."""
        if self._cancelled:
            raise JobCancelledError("the job was cancelled")
