"""The worker's own route for speech: the queue's request and answer, or a stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from worker.api.request import SpeechRequest
from worker.api.response import SpeechResponse
from worker.api.speech import AskedSpeech, parse_speech
from worker.errors import JobCancelledError
from worker.job import pipeline
from worker.job.context import Job
from worker.serve.http.door import Door
from worker.serve.http.live_events import EventStream
from worker.serve.http.openai_routes import json_body
from worker.serve.http.speech_bytes import Item, encoded

EVENTS = "text/event-stream"


def speech_router(door: Door) -> APIRouter:
    """The route, on this door."""
    router = APIRouter(prefix="/v1", tags=["speech"])

    @router.post("/speech")
    async def speech(request: Request) -> Response:
        """Speak a text: a job of the queue, answered at once or while it is spoken."""
        wants_events = EVENTS in request.headers.get("accept", "")
        asked = parse_speech(await json_body(request), streams=wants_events)
        if asked.streams:
            return await _stream(door, asked, request)
        return await _whole(door, asked, request)

    return router


async def _stream(door: Door, asked: AskedSpeech, request: Request) -> Response:
    running = door.start(partial(_live, asked))
    return EventStream(running, await running.first(request))


def _live(asked: AskedSpeech, job: Job) -> Iterator[Item]:
    return encoded(asked.request, asked.response_format, job)


async def _whole(door: Door, asked: AskedSpeech, request: Request) -> Response:
    running = door.start(partial(stored, asked.request))
    response = await running.first(request)
    if response is None:
        raise JobCancelledError("the job was cancelled")
    return JSONResponse(response.to_json(), headers={"X-Request-Id": running.id})


def stored(request: SpeechRequest, job: Job) -> Iterator[SpeechResponse]:
    """Do the job as the queue does; the answer is the one item."""
    yield pipeline.speak(request, job)
