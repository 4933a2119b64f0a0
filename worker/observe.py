"""Logs and times: one line an event, never a secret nor a whole signed URL."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("worker")


class _OneLine(logging.Formatter):
    """Keeps an event on its line: what a stranger sent, a job's id too, may hold line breaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Give the line, all that cannot be printed escaped; a traceback comes after it."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def set_up_logging(level: str) -> None:
    """Print the worker's log lines of this level and above on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


class Stopwatch:
    """Wall time of a job's stages: `with watch("audio"): ...`."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}  # by stage

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to the stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    @property
    def total(self) -> float:
        """Seconds since the watch was made."""
        return time.perf_counter() - self._started
