"""Logs and times: one JSON line an event, never a secret nor a whole signed URL."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from pydantic import JsonValue

from worker.redaction import redact_after_scheme

log = logging.getLogger("worker")

TEXT_MAX = 4_096  # characters of one text in a line

_job: ContextVar[str | None] = ContextVar("job", default=None)


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
        text = "://".join([first, *map(redact_after_scheme, others)])
        # The end of a traceback says what went wrong.
        return text if len(text) <= TEXT_MAX else f"...{text[-TEXT_MAX:]}"
