"""Logs and times: one JSON line an event, never a secret nor a whole signed URL."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from pydantic import JsonValue

log = logging.getLogger("worker")

TEXT_MAX = 4_096  # characters of one text in a line

_job: ContextVar[str | None] = ContextVar("job", default=None)
_END_OF_URL = re.compile(r"[\s\"'<>]")


def set_up_logging(level: str, secrets: Sequence[str] = ()) -> None:
    """Print the worker's events of this level and above on standard error, without `secrets`."""
    handler = _Lines(sys.stderr)
    handler.setFormatter(JsonLines(secrets))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


class _Lines(logging.StreamHandler[TextIO]):
    """Loses the lines that cannot be written, since nobody reads or the disk is full; no job."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing, for there is nowhere to say it."""


@contextmanager
def lines_of(job_id: str) -> Iterator[None]:
    """Put this job's id into the lines that the block writes."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


def event(level: int, name: str, **fields: JsonValue) -> None:
    """Write a line that has these fields beside time, level, event and job."""
    log.log(level, name, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, event, job, and what the event has to say."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if secret)

    def format(self, record: logging.LogRecord) -> str:
        """One line: JSON writes a line break within a text as two characters."""
        line: dict[str, JsonValue] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
        }
        if (job := _job.get()) is not None:
            line["job"] = job
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(self._shown(line))

    def _shown(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self._without_secrets(value)
        if isinstance(value, dict):
            return {name: self._shown(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._shown(part) for part in value]
        return round(value, 4) if isinstance(value, float) else value

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...")
        first, *others = text.split("://")
        text = "://".join([first, *map(_bare, others)])
        # The end of a traceback says what went wrong.
        return text if len(text) <= TEXT_MAX else f"...{text[-TEXT_MAX:]}"


def _bare(after_scheme: str) -> str:
    """What follows `://`, without user and query.

    The query of a pre-signed URL is a key to the file, and a password may stand before a host.
    """
    end = _END_OF_URL.search(after_scheme)
    size = end.start() if end else len(after_scheme)
    place, mark, _ = after_scheme[:size].partition("?")
    host, slash, path = place.partition("/")
    _, at, host = host.rpartition("@")
    shown = f"{'...@' if at else ''}{host}{slash}{path}{'?...' if mark else ''}"
    return shown + after_scheme[size:]


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
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add so many seconds to the stage's."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def mark(self, stage: str) -> None:
        """Note how long it took from the start until the stage was first reached."""
        self.seconds.setdefault(stage, self.total)

    @property
    def total(self) -> float:
        """Seconds since the watch was made."""
        return time.perf_counter() - self._started
