"""The routes of voices: those that may be named, and new ones of a recording."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from worker.errors import JobCancelledError, RequestError, VoiceError
from worker.job.context import Job
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.http.answers import error_response
from worker.serve.http.door import Door
from worker.serve.http.upload import Form, read_form
from worker.temp_folders import temp_prefix
from worker.voices.library import Voices
from worker.voices.listed import ListedVoice

T = TypeVar("T")

AUDIO = ("audio", "audio_sample")  # our name, and that of OpenAI's and vLLM-Omni's routes
TEXTS = ("name", "transcript", "consent")


def voice_router(door: Door) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(prefix="/v1/audio/voices", tags=["voices"])

    @router.get("")
    async def listed() -> Response:
        """The voices that a request may name: the built-in ones, then the saved ones."""
        voices = await _looked_up(door, lambda voices: voices.listed())
        data = [voice_json(voice) for voice in voices]
        # The second is what OpenAI-compatible pages look for.
        names = [{"id": voice.id, "name": voice.name} for voice in voices]
        return JSONResponse({"object": "list", "data": data, "voices": names})

    @router.post("", status_code=201)
    async def add(request: Request) -> Response:
        """Save the voice of a recording under a name; it can speak at once."""
        folder = TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True)
        try:
            form = await read_form(request, Path(folder.name), texts=TEXTS, files=AUDIO)
            running = door.start(partial(_add, form, folder))
        except BaseException:
            folder.cleanup()
            raise
        voice = await running.first(request)
        if voice is None:
            raise JobCancelledError("the request was cancelled")
        headers = {"X-Request-Id": running.id, "Location": f"/v1/audio/voices/{voice.id}"}
        return JSONResponse(voice_json(voice), 201, headers)

    @router.get("/{name}")
    async def about(name: str) -> Response:
        """One voice."""
        try:
            voice = await _looked_up(door, lambda voices: voices.about(name))
        except VoiceError as error:
            return error_response(error, 404)
        return JSONResponse(voice_json(voice))

    @router.delete("/{name}", status_code=204)
    async def remove(name: str) -> Response:
        """Remove a saved voice."""
        try:
            await _looked_up(door, lambda voices: voices.remove(name))
        except VoiceError as error:
            return error_response(error, 404)
        return Response(status_code=204)

    return router


def voice_json(voice: ListedVoice) -> dict[str, Any]:
    """A voice as these routes answer it."""
    return {"object": "voice", **asdict(voice)}


def _add(form: Form, folder: TemporaryDirectory[str], job: Job) -> Iterator[ListedVoice]:
    """Save the voice; the folder, which the form's file is in, is gone afterwards."""
    with folder, job.watch("voice"):
        if form.file is None:
            raise RequestError(
                "audio is required; it must be a recording of 1 to 60 seconds of speech",
                field="audio",
            )
        texts = form.texts
        yield job.components.voices.add(
            texts.get("name", ""),
            form.file,
            texts.get("transcript"),
            texts.get("consent", ""),
            job.cancellation,
        )


async def _looked_up(door: Door, look: Callable[[Voices], T]) -> T:
    """Ask in a thread beside the requests that speak, whose places may all be taken."""
    voices = door.components.voices
    request_id = f"http-{uuid.uuid4().hex}"
    try:
        return await asyncio.to_thread(look, voices)
    except Exception as failure:
        shown = for_the_user(failure, request_id)
        if shown is failure:
            raise
        with lines_of(request_id):
            event(logging.ERROR, "job failed", cause=failure, code=shown.code, error=shown.message)
        raise shown from None
