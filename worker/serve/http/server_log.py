"""What uvicorn and asyncio have to say, as events of the worker's own log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from worker.logs import event
from worker.serve.http.guard import CutError

# python_multipart warns of each form that is none, in lines of its own.
_LOGGERS = ("uvicorn.error", "asyncio", "python_multipart")
_KNOWN = (CutError, asyncio.CancelledError)  # logged where they were raised, or no fault

_OF_CLIENTS = ("Invalid UTF-8 sequence received from client.",)  # a fault of theirs, not of ours


def hear_server() -> None:
    """Have all errors of the server logged as `http server failed`, and nothing else of it.

    Alone, they write lines of their own to standard error.
    """
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_Heard(logging.ERROR)]
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    logging.getLogger("uvicorn.access").disabled = True


class _Heard(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        if not isinstance(cause, _KNOWN) and record.getMessage() not in _OF_CLIENTS:
            event(
                logging.ERROR, "http server failed", cause=cause, error=record.getMessage().strip()
            )


def log_failed_callback(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler of what nobody caught."""
    cause = context.get("exception")
    if not isinstance(cause, (*_KNOWN, ConnectionError)):
        event(logging.ERROR, "http server failed", cause=cause, error=str(context.get("message")))
