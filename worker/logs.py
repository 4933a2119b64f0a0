"""The log: each event is one line of JSON, without secrets and without the queries of URLs."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from pydantic import JsonValue

from worker.redaction import redact_urls

log = logging.getLogger("worker")

TEXT_MAX = 4_096  # characters of one text in a line

_job: ContextVar[str | None] = ContextVar("job", default=None)


def set_up_logging(level: str, secrets: Sequence[str] = ()) -> None:
    """Write the worker's events of this level and above to standard error, without `secrets`."""
    handler = _Lines(sys.stderr)
    handler.setFormatter(JsonLines(secrets))
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


class _Lines(logging.StreamHandler[TextIO]):
    """Drops a line that cannot be written, since nobody reads or the disk is full: no job fails."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing, for there is nowhere to report it."""


@contextmanager
def lines_of(job_id: str) -> Iterator[None]:
    """Add this job's id to the lines that the block writes."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


def event(
    level: int, name: str, *, cause: BaseException | None = None, **fields: JsonValue
) -> None:
    """Write a line with these fields beside time, level, event and job.

    With `cause`, it has the exception's traceback too.
    """
    log.log(level, name, exc_info=cause, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, event, job and the event's fields."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if secret)

    def format(self, record: logging.LogRecord) -> str:
        """Give one line: JSON writes a line break within a text as two characters."""
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
        if isinstance(value, float):  # JSON has neither NaN nor infinities
            return round(value, 4) if math.isfinite(value) else None
        return value

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...")
        text = redact_urls(text)
        # The end of a traceback says what went wrong.
        return text if len(text) <= TEXT_MAX else f"...{text[-TEXT_MAX:]}"
