"""OpenAI's routes: speech, and the models."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from worker.api.answers import Model, ModelList
from worker.api.model_names import check_model, model_names
from worker.api.openai import OpenAISpeech, in_openai_terms, parse_openai
from worker.api.openai_fields import DeltaEvent, DoneEvent, OpenAISpeechFields
from worker.api.own_fields import ErrorEvent
from worker.audio.formats import STREAM_CONTENT_TYPES, stream_content_type
from worker.errors import WorkerError
from worker.job.context import Job
from worker.job.live import LiveEnd
from worker.serve.http.answers import error_body, status_of
from worker.serve.http.bodies import json_body
from worker.serve.http.door import Door, Running
from worker.serve.http.limits import check_text
from worker.serve.http.live_response import EVENT_STREAM, LiveResponse, items_of, sse
from worker.serve.http.schemas import (
    OF_EVERY_ROUTE,
    OF_SPEECH,
    Part,
    events_of,
    faults,
    get_and_head,
)
from worker.serve.http.schemas import json_body as body_schema
from worker.serve.http.speech_bytes import AudioBytes, Item, encoded

UNSUPPORTED = "X-Unsupported"  # header: the fields of a request that were ignored


def openai_router(door: Door) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses={200: _spoken(), **faults(*OF_SPEECH)},
        openapi_extra=body_schema(OpenAISpeechFields),
    )
    async def speech(request: Request) -> Response:
        """Speak a text; the audio comes as it is made."""
        body = await json_body(request)
        if isinstance(body, dict):
            check_text(body.get("input"), door.settings, "input")
        voices = door.components.voices
        asked = parse_openai(body, door.settings.spark_model, voices.is_builtin)
        running = door.start(partial(_work, asked))
        first = await running.first(request)
        headers = {UNSUPPORTED: "instructions"} if asked.instructions else {}
        if asked.stream_format == "sse":
            return LiveResponse(running, _events(running, first, asked), EVENT_STREAM, headers)
        kind = stream_content_type(asked.response_format, asked.request.sample_rate)
        return LiveResponse(running, _bytes(running, first), kind, headers)

    async def models() -> ModelList:
        """The names that a request may give as its model; all mean the one that is served."""
        return ModelList(data=tuple(map(_model, model_names(door.settings.spark_model))))

    get_and_head(router, "/models", models, responses=faults(*OF_EVERY_ROUTE, 400))

    async def model(id: str) -> Model:  # noqa: A002 - OpenAI's word
        """One of these names."""
        check_model(id, door.settings.spark_model)
        return _model(id)

    of_one = faults(*OF_EVERY_ROUTE, 400, 404, 422)
    # A path, for a model of the operator's own has a slash in its name.
    get_and_head(router, "/models/{id:path}", model, responses=of_one)

    return router


def _model(name: str) -> Model:
    return Model(id=name, created=0, owned_by="spark-tts")


def _spoken() -> Part:
    audio: Mapping[str, Part] = {
        kind.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
        for kind in STREAM_CONTENT_TYPES.values()
    }
    events = events_of(DeltaEvent, DoneEvent, ErrorEvent)
    return {"description": "The speech.", "content": {**audio, EVENT_STREAM: events}}


def _work(asked: OpenAISpeech, job: Job) -> Iterator[Item]:
    try:
        yield from encoded(asked.request, asked.response_format, job)
    except WorkerError as error:  # of what is only known here: a model's alphabet, a tag's voice
        raise in_openai_terms(error) from None


async def _bytes(running: Running[Item], first: Item | None) -> AsyncIterator[bytes]:
    async for item in items_of(running, first):
        if isinstance(item, AudioBytes):
            yield item.content


async def _events(
    running: Running[Item], first: Item | None, asked: OpenAISpeech
) -> AsyncIterator[bytes]:
    try:
        async for item in items_of(running, first):
            if isinstance(item, AudioBytes):
                audio = base64.b64encode(item.content).decode()
                yield sse({"type": "speech.audio.delta", "audio": audio})
            elif isinstance(item, LiveEnd):
                yield sse({"type": "speech.audio.done", "usage": usage(asked, item)})
    except WorkerError as error:
        yield sse({"type": "error", **error_body(error, status_of(error))})


def usage(asked: OpenAISpeech, end: LiveEnd) -> dict[str, int]:
    """What a request took, as OpenAI counts it; the text by its characters."""
    characters, tokens = len(asked.request.text), end.metrics.tokens
    return {
        "input_tokens": characters,
        "output_tokens": tokens,
        "total_tokens": characters + tokens,
    }
