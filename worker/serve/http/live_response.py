"""An answer that is made while it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from worker.errors import WorkerError
from worker.serve.http.answers import to_json
from worker.serve.http.connection import ABORT
from worker.serve.http.guard import CutError
from worker.serve.http.request_id import HEADER
from worker.serve.http.running import Running, T

EVENT_STREAM = "text/event-stream"


class LiveResponse(Response):
    """The bytes of `content`, as they come. Whatever ends it ends the work.

    A WorkerError of the content ends the answer as a fault does: the connection is closed without
    the end that HTTP marks, so that no client takes what it has for the whole.
    """

    def __init__(
        self,
        running: Running[Any],
        content: AsyncIterator[bytes],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        own = {HEADER: running.id, "Cache-Control": "no-store"}
        if media_type == EVENT_STREAM:
            own["X-Accel-Buffering"] = "no"  # or nginx would hold events back
        self.body = b""
        self.init_headers({**own, **(headers or {})})
        del self.headers["content-length"]
        self._running = running
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        self._running.answering(scope.get(ABORT))
        leaving = asyncio.create_task(self._close_when_left(receive))
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            async for part in self._content:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except WorkerError:  # logged where the work failed
            raise CutError from None
        finally:
            leaving.cancel()
            self._running.close()

    async def _close_when_left(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._running.close()


async def items_of(running: Running[T], first: T | None) -> AsyncIterator[T]:
    """All items of the work, of which the first was waited for already."""
    item = first
    while item is not None:
        yield item
        item = await running.next()


def sse(data: object) -> bytes:
    """A server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"
