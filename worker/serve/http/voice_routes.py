"""The routes of voices: those that may be named, and new ones of a recording."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from worker.api.own_fields import NewVoiceAnswer, VoiceAnswer, VoiceForm, VoiceList
from worker.errors import JobCancelledError, RequestError, VoiceError
from worker.job.context import Job
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.http.answers import Json, error_response
from worker.serve.http.door import Door
from worker.serve.http.request_id import request_id
from worker.serve.http.schemas import (
    OF_EVERY_ROUTE,
    OF_SPEECH,
    Part,
    faults,
    get_and_head,
    schema_of,
)
from worker.serve.http.upload import Form, read_form
from worker.temp_folders import temp_prefix
from worker.voices.library import Voices
from worker.voices.listed import ListedVoice

T = TypeVar("T")

PATH = "/v1/audio/voices"
LOOKS = 8  # requests about saved voices that are with the storage at the same time
AUDIO = ("audio", "audio_sample")  # our name, and that of OpenAI's and vLLM-Omni's routes
TEXTS = ("name", "transcript", "transcript_mismatch", "consent")


def voice_router(door: Door) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(prefix=PATH, tags=["voices"])

    # Of their own, so that a slow storage holds up no upload, which is written in the loop's.
    threads = ThreadPoolExecutor(LOOKS, "voices")

    async def listed() -> Response:
        """The voices that a request may name: the built-in ones, then the saved ones."""
        voices = await _looked_up(door, threads, lambda voices: voices.listed())
        data = [voice_json(voice) for voice in voices]
        # The second is what OpenAI-compatible pages look for.
        names = [{"id": voice.id, "name": voice.name} for voice in voices]
        return Json({"object": "list", "data": data, "voices": names})

    get_and_head(
        router,
        "",
        listed,
        response_model=VoiceList,
        responses=faults(*OF_EVERY_ROUTE),
    )

    @router.post(
        "",
        status_code=201,
        response_model=NewVoiceAnswer,
        responses=faults(*OF_SPEECH),
        openapi_extra=_form(),
    )
    async def add(request: Request) -> Response:
        """Save the voice of a recording under a name; it can speak at once."""
        folder = TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True)
        try:
            form = await read_form(request, Path(folder.name), texts=TEXTS, files=AUDIO)
            running = door.start(partial(_add, form, folder))
        except BaseException:
            folder.cleanup()
            raise
        try:
            added = await running.first(request)
        finally:
            running.close()
        if added is None:
            raise JobCancelledError("the request was cancelled")
        voice, warnings = added
        return Json(
            {**voice_json(voice), "warnings": warnings}, 201, {"Location": f"{PATH}/{voice.id}"}
        )

    async def about(name: str) -> Response:
        """One voice."""
        try:
            voice = await _looked_up(door, threads, lambda voices: voices.about(name))
        except VoiceError as error:
            return error_response(error, 404)
        return Json(voice_json(voice))

    get_and_head(
        router,
        "/{name}",
        about,
        response_model=VoiceAnswer,
        responses=faults(*OF_EVERY_ROUTE, 400, 404),
    )

    @router.delete(
        "/{name}",
        status_code=204,
        response_class=Response,
        responses=faults(*OF_EVERY_ROUTE, 400, 404),
    )
    async def remove(name: str) -> Response:
        """Remove a saved voice."""
        try:
            await _looked_up(door, threads, lambda voices: voices.remove(name))
        except VoiceError as error:
            return error_response(error, 404)
        return Response(status_code=204)

    return router


def voice_json(voice: ListedVoice) -> dict[str, Any]:
    """A voice as these routes answer it."""
    return {"object": "voice", **asdict(voice)}


def _form() -> Part:
    content = {"multipart/form-data": {"schema": schema_of(VoiceForm, "validation")}}
    return {"requestBody": {"required": True, "content": content}}


def _add(
    form: Form, folder: TemporaryDirectory[str], job: Job
) -> Iterator[tuple[ListedVoice, list[str]]]:
    """Save the voice; the folder, which the form's file is in, is gone afterwards.

    Gives it with the warnings about the recording.
    """
    with folder, job.watch("voice"):
        if form.file is None:
            raise RequestError(
                "audio is required; it must be a recording of 1 to 60 seconds of speech",
                field="audio",
            )
        texts = form.texts
        voice = job.components.voices.add(
            texts.get("name", ""),
            form.file,
            texts.get("transcript"),
            texts.get("consent", ""),
            job.cancellation,
            job.warn,
            mismatch=texts.get("transcript_mismatch"),
        )
        yield voice, list(job.warnings)


async def _looked_up(door: Door, threads: ThreadPoolExecutor, look: Callable[[Voices], T]) -> T:
    """Ask in a thread beside the requests that speak, whose places may all be taken."""
    voices = door.components.voices
    job_id = request_id()
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, look, voices)
    except Exception as failure:
        shown = for_the_user(failure, job_id)
        if shown is failure:
            raise
        with lines_of(job_id):
            event(logging.ERROR, "job failed", cause=failure, code=shown.code, error=shown.message)
        raise shown from None
