"""The WebSocket for text that comes piece by piece: it is spoken while it is written.

The client sends objects in JSON:

    session.start   first: the fields of a request without text, and response_format
    text            a piece of the text, cut anywhere
    flush           the text so far is whole: all of it is spoken
    cancel          what is not spoken yet is dropped; the session goes on
    close           as flush, and nothing follows

It gets binary frames, the bytes of one audio stream, and objects: session.started,
speech.sentence (after its audio), speech.flushed, speech.cancelled (no audio of before comes after
it), speech.done, and error, after which the socket is closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter
from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from worker.api.field_types import Text
from worker.api.request import SpeechRequest
from worker.api.speech import DEFAULT_FORMAT, parse_live, take_format
from worker.audio.encoders import open_encoder
from worker.audio.formats import PCM_RATE, StreamFormat
from worker.errors import (
    BusyError,
    DownloadError,
    InternalError,
    JobCancelledError,
    RequestError,
    VoiceError,
    WorkerError,
)
from worker.job.context import Job
from worker.job.live import LiveAudio
from worker.job.live_sentences import LiveSentence
from worker.job.speech_file import tags_of
from worker.job.text_session import (
    SessionCancelled,
    SessionEnd,
    SessionFlushed,
    SessionSpoken,
    SessionStarted,
    TextSession,
)
from worker.redaction import redact
from worker.serve.http.answers import DoorClosedError, TooLargeError, TooSlowError, to_json
from worker.serve.http.door import Door, Running
from worker.serve.http.live_events import Event, error_event, sentence_event
from worker.serve.http.speech_bytes import AudioBytes
from worker.text.sentence_buffer import SentenceBuffer

PATH = "/v1/audio/speech/stream"

# Close codes: RFC 6455, 7.4.1, and IANA's registry of them.
NORMAL = 1000
WRONG_TYPE = 1003
POLICY = 1008
TOO_LARGE = 1009
BROKEN = 1011
RESTART = 1012
TRY_LATER = 1013

MARKS = 256  # flushes and cancels that wait for their answers before no more is read
CLOSING_SECONDS = 5.0  # for the last messages, to a client that may not read them

_SENTENCE = TypeAdapter(Text)

SocketItem = (
    AudioBytes | LiveSentence | SessionStarted | SessionFlushed | SessionCancelled | SessionEnd
)
_TOLD = MappingProxyType({SessionFlushed: "speech.flushed", SessionCancelled: "speech.cancelled"})


class WrongTypeError(RequestError):
    """The client sent what is no JSON object of a known type."""

    code = "wrong_type"


# What the client may say in a session, and the fields of it.
_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {"text": frozenset({"text"}), "flush": frozenset(), "cancel": frozenset(), "close": frozenset()}
)
# The first that an error is an instance of counts.
_CODES: tuple[tuple[type[WorkerError], int], ...] = (
    (WrongTypeError, WRONG_TYPE),
    (TooLargeError, TOO_LARGE),
    (RequestError, POLICY),
    (VoiceError, POLICY),
    (DownloadError, POLICY),
    (BusyError, TRY_LATER),
    (DoorClosedError, RESTART),
    (JobCancelledError, RESTART),
)


def text_socket_router(door: Door) -> APIRouter:
    """The route, on this door."""
    router = APIRouter()

    @router.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await _Session(door, socket).serve()

    return router


class _Session:
    """One socket: a task that reads what the client says, and one that sends what is made."""

    def __init__(self, door: Door, socket: WebSocket) -> None:
        self._door = door
        self._socket = socket
        self._idle = door.settings.http_idle_seconds
        self._most = door.settings.http_max_text
        self._buffer = SentenceBuffer()
        self._room = asyncio.Event()
        self._marks = 0  # flushes and cancels that were not answered yet
        self._running: Running[SocketItem] | None = None
        self._format: StreamFormat = DEFAULT_FORMAT
        self._asked_rate: int | None = None  # Hz
        self._ended = False  # whether the client said that nothing follows

    async def serve(self) -> None:
        """Serve the client until it leaves, the session ends or a fault ends it."""
        try:
            await self._serve()
        except WebSocketDisconnect:
            return
        except WorkerError as error:
            await self._close(_close_code(error), error)
        except Exception:
            await self._close(BROKEN, InternalError("internal error; the worker's log says more"))
            raise
        else:
            await self._close(RESTART if self._door.draining.is_set() else NORMAL)
        finally:
            if self._running is not None:
                self._running.close()

    async def _close(self, code: int, error: WorkerError | None = None) -> None:
        """Close the socket, after the error if there is one; the work ends first."""
        if self._running is not None:
            self._running.close()
        with suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                if error is not None:
                    await self._socket.send_text(to_json(error_event(error)).decode())
                await self._socket.close(code)

    async def _serve(self) -> None:
        session, running = await self._start()
        self._running = running
        sending = asyncio.ensure_future(self._send_all(running))
        reading = asyncio.ensure_future(self._read_all(session))
        draining = asyncio.ensure_future(self._end_with_the_door(session))
        tasks = (reading, sending, draining)
        try:
            # Only the sender ends by itself.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_with_the_door(self, session: TextSession) -> None:
        """When the worker ends, what was said is spoken, and nothing more is heard."""
        await self._door.draining.wait()
        if not self._ended:
            self._end(session)
        await asyncio.Event().wait()

    # What the client says

    async def _start(self) -> tuple[TextSession, Running[SocketItem]]:
        """Wait for the session's start, and begin its work."""
        seconds = self._door.settings.http_body_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await self._receive()
        except TimeoutError:
            raise TooSlowError(f"no session.start came within {seconds} s") from None
        if message.pop("type") != "session.start":
            raise RequestError("the first message must be of type session.start", field="type")
        response_format = take_format(message) or DEFAULT_FORMAT
        if "text" in message:
            raise RequestError("text: send it in messages of type text", field="text")
        for name in ("turns", "markup"):
            if message.get(name) not in (None, False):
                raise RequestError(
                    f"{name}: a text that comes piece by piece has one voice and no tags; send "
                    "the whole to /v1/speech with stream: true",
                    field=name,
                )
        request = parse_live({**message, "text": "-1"}, response_format)
        loop = asyncio.get_running_loop()
        session = TextSession(request, partial(_wake, loop, self._room))
        running = self._door.start(partial(_work, session, request, response_format))
        running.take_long()
        self._format = response_format
        self._asked_rate = request.sample_rate
        return session, running

    async def _read_all(self, session: TextSession) -> None:
        while not self._ended:
            while self._is_full(session):  # it is read no faster than it is spoken
                self._room.clear()
                if self._is_full(session):
                    await self._room.wait()
            message = await self._next(session)
            if not self._ended:
                self._heed(message, session)
        # What is said after the end counts for nothing, but that the client has left.
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass
        raise WebSocketDisconnect

    def _is_full(self, session: TextSession) -> bool:
        return session.waiting > self._most or self._marks > MARKS

    async def _next(self, session: TextSession) -> Event:
        """The client's next message. Raises TooSlowError where none comes and nothing is spoken."""
        receiving = asyncio.ensure_future(self._receive())
        try:
            while True:
                done, _ = await asyncio.wait({receiving}, timeout=self._idle)
                if done:
                    return receiving.result()
                if not session.busy:
                    raise TooSlowError(f"nothing was said for {self._idle} s")
        finally:
            receiving.cancel()

    async def _receive(self) -> Event:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NORMAL))
        text = message.get("text")
        if text is None:
            raise WrongTypeError("binary messages are not taken; send objects in JSON")
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise WrongTypeError(
                "a message must be an object in JSON with the field type", field="type"
            )
        return event

    def _heed(self, message: dict[str, Any], session: TextSession) -> None:
        kind = message.pop("type")
        if kind not in _FIELDS:
            raise RequestError(
                f"type: {redact(kind)} is not allowed; it must be one of {', '.join(_FIELDS)}",
                field="type",
            )
        if unknown := message.keys() - _FIELDS[kind]:
            name = redact(min(unknown))
            raise RequestError(f"{name} is no field of a message of type {kind}")
        if kind == "text":
            self._say(self._buffer.feed(self._text_of(message)), session)
        elif kind == "flush":
            self._say(self._buffer.flush(), session)
            self._marks += 1
            session.flush()
        elif kind == "close":
            self._end(session)
        else:
            self._buffer = SentenceBuffer()
            self._marks += 1
            session.cancel()

    def _end(self, session: TextSession) -> None:
        """Have what was said spoken; nothing follows."""
        self._ended = True
        self._say(self._buffer.flush(), session)
        session.end()

    def _text_of(self, message: dict[str, Any]) -> str:
        text = message.get("text")
        if not isinstance(text, str):
            raise RequestError("text: it must be a text", field="text")
        if len(text) > self._most:
            raise TooLargeError(
                f"text: it has {len(text)} characters, and a message may have {self._most}; cut it",
                field="text",
            )
        return text

    def _say(self, sentences: list[str], session: TextSession) -> None:
        for sentence in sentences:
            try:
                session.say(_SENTENCE.validate_python(sentence))
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise RequestError(f"text: {redact(sentence)} {reason}", field="text") from None

    # What it gets

    async def _send_all(self, running: Running[SocketItem]) -> None:
        while (item := await running.next()) is not None:
            if isinstance(item, AudioBytes):
                await self._in_time(self._socket.send_bytes(item.content))
            else:
                await self._send_event(self._event_of(item, running))
                if isinstance(item, SessionFlushed | SessionCancelled):
                    self._marks -= 1
                    self._room.set()

    def _event_of(self, item: SocketItem, running: Running[SocketItem]) -> Event:
        """An item that is no audio as its event."""
        if isinstance(item, LiveSentence):
            return sentence_event(item)
        if isinstance(item, SessionStarted):
            return {
                "type": "session.started",
                "id": running.id,
                "response_format": self._format,
                "sample_rate": PCM_RATE
                if self._format == "pcm" and self._asked_rate is None
                else item.sample_rate,
                "seed": item.seed,
            }
        if isinstance(item, SessionEnd):
            spoken = item if isinstance(item, SessionSpoken) else None
            return {
                "type": "speech.done",
                "sample_rate": item.sample_rate,
                "duration": round(item.duration, 3),
                "sentences": spoken.sentences if spoken else 0,
                "voice": spoken.voice.model_dump(mode="json", exclude_none=True)
                if spoken
                else None,
                "seed": item.seed,
                "warnings": list(item.warnings),
                "metrics": spoken.metrics.model_dump(mode="json", exclude_none=True)
                if spoken
                else None,
            }
        return {"type": _TOLD[type(item)]}

    async def _send_event(self, event: Event) -> None:
        await self._in_time(self._socket.send_text(to_json(event).decode()))

    async def _in_time(self, sending: Awaitable[None]) -> None:
        """Send. Raises TooSlowError where the client takes nothing."""
        try:
            async with asyncio.timeout(self._idle):
                await sending
        except TimeoutError:
            raise TooSlowError(f"the client took nothing for {self._idle} s") from None


def _wake(loop: asyncio.AbstractEventLoop, room: asyncio.Event) -> None:
    """Tell the reader that there may be room; from any thread."""
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(room.set)


def _work(
    session: TextSession, request: SpeechRequest, response_format: StreamFormat, job: Job
) -> Iterator[SocketItem]:
    """Speak the session, its audio as the bytes of one stream."""
    encoder = open_encoder(
        response_format,
        job.components.engine.sample_rate,
        rate=request.sample_rate,
        bit_rate=request.bit_rate,
        tags=tags_of(request, job.components.voices.model),
    )
    for event in session.speak(job):
        content = b""
        if isinstance(event, LiveAudio):
            with job.watch("audio"):
                content = encoder.encode(event.samples)
        elif isinstance(event, SessionEnd):
            content = encoder.finish()
        if content:
            yield AudioBytes(content)
        if not isinstance(event, LiveAudio):
            yield event


def _close_code(error: WorkerError) -> int:
    """The code that a socket is closed with after an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), BROKEN)
