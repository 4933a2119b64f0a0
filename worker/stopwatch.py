"""The stopwatch of a job: how long each stage takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Wall time of a job's stages: `with watch("audio"): ...`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}  # by stage
        # Of a worker's first job: what gives the seconds of the worker's start, once.
        self.start: Callable[[], dict[str, float]] | None = None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to the stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to the stage's."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def mark(self, stage: str) -> None:
        """Note the seconds from the start until the stage was first reached."""
        self.seconds.setdefault(stage, self.total)

    def take_start(self) -> dict[str, float] | None:
        """Seconds of the worker's start by stage, where this is its first job; then None."""
        start, self.start = self.start, None
        return start() if start is not None else None

    @property
    def total(self) -> float:
        """Seconds since the watch was made."""
        return time.perf_counter() - self._started
