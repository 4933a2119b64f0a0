"""Voices in memory: those that were lately made, saved or read, a few kB each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept(Generic[T]):
    value: T
    since: float  # by the memory's clock


class Memory(Generic[T]):
    """At most `most` values, the one that was not asked for longest going first; for any threads.

    A value is given for `seconds` after it was kept: other workers may change what it was read
    from.
    """

    def __init__(
        self,
        most: int,
        seconds: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._changes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def changes(self) -> int:
        """How often this worker changed what values are read from; see `keep_read`."""
        return self._changes

    def recall(self, key: Hashable) -> T | None:
        """The value under the key; None where there is none, or it is too old."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            if self._clock() - found.since >= self._seconds:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return found.value

    def keep(self, key: Hashable, value: T) -> None:
        """Keep what was made or stored by this worker."""
        with self._lock:
            self._changes += 1
            self._put(key, value)

    def keep_read(self, key: Hashable, value: T, changes: int) -> None:
        """Keep what was read, unless something changed since `changes`: it may be older then."""
        with self._lock:
            if self._changes == changes:
                self._put(key, value)

    def forget(self, key: Hashable) -> None:
        """Keep the value no longer."""
        with self._lock:
            self._changes += 1
            self._kept.pop(key, None)

    def _put(self, key: Hashable, value: T) -> None:
        self._kept[key] = _Kept(value, self._clock())
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
