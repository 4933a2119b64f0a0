"""The worker's own route for speech: the queue's request and answer, or a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from worker.api.own_fields import SPEECH_EVENTS, OwnSpeechFields, WrappedSpeechFields
from worker.api.request import SpeechRequest
from worker.api.response import SpeechResponse
from worker.api.speech import AskedSpeech, parse_speech
from worker.errors import JobCancelledError, WorkerError
from worker.job import pipeline
from worker.job.context import Job
from worker.serve.http.answers import Json
from worker.serve.http.bodies import json_body
from worker.serve.http.door import Door, Running
from worker.serve.http.limits import check_request
from worker.serve.http.live_events import error_event, event_of
from worker.serve.http.live_response import EVENT_STREAM, LiveResponse, items_of, sse
from worker.serve.http.schemas import OF_SPEECH, Part, events_of, faults, schema_of
from worker.serve.http.speech_bytes import Item, encoded


def speech_router(door: Door) -> APIRouter:
    """The route, on this door."""
    router = APIRouter(prefix="/v1", tags=["speech"])

    @router.post(
        "/speech",
        response_class=Response,
        responses={200: _answers(), **faults(*OF_SPEECH)},
        openapi_extra=_body(),
    )
    async def speech(request: Request) -> Response:
        """Speak a text: a job of the queue, answered when it is done or while it is spoken."""
        wants_events = EVENT_STREAM in request.headers.get("accept", "")
        asked = parse_speech(await json_body(request), streams=wants_events)
        check_request(asked.request, door.settings)
        if not asked.streams:
            return await _whole(door, asked, request)
        running = door.start(partial(_live, asked))
        first = await running.first(request)
        return LiveResponse(running, _events(running, first), EVENT_STREAM)

    return router


async def _whole(door: Door, asked: AskedSpeech, request: Request) -> Response:
    running = door.start(partial(_stored, asked.request))
    try:
        response = await running.first(request)
    finally:
        running.close()
    if response is None:
        raise JobCancelledError("the job was cancelled")
    return Json(response.to_json())


def _stored(request: SpeechRequest, job: Job) -> Iterator[SpeechResponse]:
    """Do the job as the queue does; the answer is the one item."""
    yield pipeline.speak(request, job)


def _live(asked: AskedSpeech, job: Job) -> Iterator[Item]:
    return encoded(asked.request, asked.response_format, job)


async def _events(running: Running[Item], first: Item | None) -> AsyncIterator[bytes]:
    try:
        async for item in items_of(running, first):
            yield sse(event_of(item))
    except WorkerError as error:
        yield sse(error_event(error))


def _body() -> Part:
    forms = [schema_of(model, "validation") for model in (OwnSpeechFields, WrappedSpeechFields)]
    content = {"application/json": {"schema": {"anyOf": forms}}}
    return {"requestBody": {"required": True, "content": content}}


def _answers() -> Part:
    return {
        "description": "The speech.",
        "content": {
            "application/json": {"schema": schema_of(SpeechResponse)},
            EVENT_STREAM: events_of(*SPEECH_EVENTS),
        },
    }
