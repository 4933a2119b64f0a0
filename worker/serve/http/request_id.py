"""The id of the request that is being answered: in its answer, in the log, in what it stores."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from worker.logs import lines_of

HEADER = "X-Request-Id"

_id: ContextVar[str | None] = ContextVar("request_id", default=None)


@contextmanager
def new_request() -> Iterator[str]:
    """Give the block an id of its own, which its lines of the log have too.

    It is never one that a client brings: results are stored under it.
    """
    given = f"http-{uuid.uuid4().hex}"
    token = _id.set(given)
    try:
        with lines_of(given):
            yield given
    finally:
        _id.reset(token)


def request_id() -> str:
    """The id of the request that this code answers; a new one outside of any."""
    return _id.get() or f"http-{uuid.uuid4().hex}"
