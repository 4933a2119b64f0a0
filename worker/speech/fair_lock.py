"""A lock that is handed on in order, so that nobody starves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType

NEVER = float("inf")


@dataclass(frozen=True, eq=False)
class _Waiting:
    """Someone who waits."""

    due: float
    turn: Lock = field(default_factory=Lock)


class FairLock:
    """Lets those in first who came first: `with lock: ...`.

    But who is late goes before all others, the one who is latest first: `with lock.due(when): ...`.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._taken = False
        self._queue: list[_Waiting] = []

    def __enter__(self) -> None:
        """Take the lock, after all who came before."""
        self._enter(NEVER)

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Hand the lock to the latest of those who are late, else to who has waited longest."""
        with self._guard:
            if not self._queue:
                self._taken = False
                return
            first = min(self._queue, key=lambda one: one.due)
            if first.due > time.perf_counter():
                first = self._queue[0]
            self._queue.remove(first)
            first.turn.release()

    @contextmanager
    def due(self, when: float) -> Iterator[None]:
        """Take the lock; from that time on, by `time.perf_counter`, before who is not late."""
        self._enter(when)
        try:
            yield
        finally:
            self.__exit__(None, None, None)

    def _enter(self, due: float) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = _Waiting(due)
            mine.turn.acquire()
            self._queue.append(mine)
        mine.turn.acquire()  # given by the one before
