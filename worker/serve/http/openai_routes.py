"""OpenAI's routes: speech, and the models."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from worker.api.openai import OpenAISpeech, parse_openai
from worker.audio.formats import STREAM_CONTENT_TYPES
from worker.errors import RequestError, WorkerError
from worker.job.context import Job
from worker.job.live import LiveEnd
from worker.serve.http.answers import error_body, status_of
from worker.serve.http.door import Door, Running
from worker.serve.http.speech_bytes import AudioBytes, Item, encoded


def openai_router(door: Door) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/audio/speech")
    async def speech(request: Request) -> Response:
        """Speak a text; the audio comes as it is made."""
        asked = parse_openai(await json_body(request), door.settings.spark_model)
        running = door.start(partial(_work, asked))
        first = await running.first(request)
        if asked.stream_format == "sse":
            content, kind = _events(running, first), "text/event-stream"
        else:
            content, kind = _bytes(running, first), STREAM_CONTENT_TYPES[asked.response_format]
        return LiveResponse(running, content, kind, asked)

    return router


def _work(asked: OpenAISpeech, job: Job) -> Iterator[Item]:
    return encoded(asked.request, asked.response_format, job)


class LiveResponse(StreamingResponse):
    """An answer that is made while it is sent; whatever ends it ends the work."""

    def __init__(
        self, running: Running[Item], content: AsyncIterator[bytes], kind: str, asked: OpenAISpeech
    ) -> None:
        headers = {"X-Request-Id": running.id, "Cache-Control": "no-store"}
        if asked.instructions:
            headers["X-Unsupported"] = "instructions"
        super().__init__(content, media_type=kind, headers=headers)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.close()


async def _items(running: Running[Item], first: Item | None) -> AsyncIterator[Item]:
    item = first
    while item is not None:
        yield item
        item = await running.next()


async def _bytes(running: Running[Item], first: Item | None) -> AsyncIterator[bytes]:
    async for item in _items(running, first):
        if isinstance(item, AudioBytes):
            yield item.content


async def _events(running: Running[Item], first: Item | None) -> AsyncIterator[bytes]:
    try:
        async for item in _items(running, first):
            if isinstance(item, AudioBytes):
                audio = base64.b64encode(item.content).decode()
                yield sse({"type": "speech.audio.delta", "audio": audio})
            elif isinstance(item, LiveEnd):
                yield sse({"type": "speech.audio.done", "usage": usage(item)})
    except WorkerError as error:
        yield sse({"type": "error", **error_body(error, status_of(error))})


def usage(end: LiveEnd) -> dict[str, int]:
    """What a request cost, as OpenAI counts it."""
    tokens = end.metrics.tokens
    return {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}


def sse(data: object) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def json_body(request: Request) -> object:
    """The body of a request, as JSON. Raises RequestError where it is none."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON ({error})", field="body") from None
