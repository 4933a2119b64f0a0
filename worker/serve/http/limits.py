"""What a request must bring and may not exceed, before any route sees it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.api.request import SpeechRequest
from worker.errors import BusyError
from worker.serve.http.answers import (
    TooLargeError,
    TooSlowError,
    UnauthorizedError,
    error_response,
)
from worker.settings import Settings

_Fault = TooLargeError | TooSlowError | BusyError

# What needs no key: the page and the documents, which hold nothing of anybody's, and the health. A
# browser has no key when it opens a page, and neither has what looks whether the worker lives.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/ping", "/health"})
# Bytes of all bodies that are inside at once, at least: clients that send large ones and never end
# would fill memory and disk. The first bytes of each do not count, so that plain requests are taken
# also while that is so.
BODIES_BYTES = 256_000_000
UNCOUNTED_BYTES = 65_536
LINGER_SECONDS = 2.0  # that a body which is not wanted is read on, so that its sender sees why


class Limits:
    """ASGI middleware: the key, the size of the body, and the time in which it must arrive."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._open = {*OPEN_PATHS, settings.health_check_path}
        self._room = _Room(max(BODIES_BYTES, 4 * settings.http_max_body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what may not pass; pass on the rest."""
        headers = Headers(scope=scope)
        if not (scope["path"] in self._open or has_key(headers, self._settings)):
            error = UnauthorizedError(
                "the key is missing or wrong; send the worker's API_KEY as Authorization: Bearer "
                "KEY, or as X-API-Key: KEY"
            )
            await error_response(error)(scope, receive, send)
        elif scope["type"] == "http":
            body = _Body(self._app, receive, send, self._settings, self._room)
            await body.run(scope, headers)
        else:
            await self._app(scope, receive, send)


def has_key(headers: Headers, settings: Settings) -> bool:
    """Whether a request brings the worker's key, where that has one; takes the same time always."""
    if settings.api_key is None:
        return True
    key = settings.api_key.get_secret_value().encode()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    given = (bearer, headers.get("x-api-key", ""))
    # No `or`: both are compared, whatever comes of the first. A header's bytes are read as Latin-1,
    # whatever they are, so that is how they are written again.
    return sum(hmac.compare_digest(one.encode("latin-1"), key) for one in given) > 0


def check_text(text: object, settings: Settings, field: str) -> None:
    """Raise TooLargeError, which blames `field`, where a text is longer than this worker takes."""
    most = settings.http_max_text
    if isinstance(text, str) and len(text) > most and (length := len(text.strip())) > most:
        raise TooLargeError(
            f"{field}: the text has {length} characters, more than the {most} that one request "
            "may have here; divide it",
            field=field,
        )


def check_request(request: SpeechRequest, settings: Settings) -> None:
    """Raise TooLargeError where a request's text, or its turns together, are longer than that."""
    if request.turns is None:
        check_text(request.text, settings, "text")
    else:
        check_text("\n".join(turn.text for turn in request.turns), settings, "turns")


class _Room:
    """The bytes that all bodies together may have at once, those of requests under way included."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0

    def resize(self, before: int, now: int) -> bool:
        """Count a body of `now` bytes, of which `before` were counted; whether there is room."""
        self._used += self._counted(now) - self._counted(before)
        return self._used <= self._most

    @staticmethod
    def _counted(size: int) -> int:
        return max(size - UNCOUNTED_BYTES, 0)


class _Body:
    """Counts and times the body of one request while the app reads it."""

    def __init__(
        self, app: ASGIApp, receive: Receive, send: Send, settings: Settings, room: _Room
    ) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._settings = settings
        self._room = room
        self._size = 0
        self._through = False
        self._begun = False
        self._error: _Fault | None = None
        self._until = asyncio.get_running_loop().time() + settings.http_body_seconds

    async def run(self, scope: Scope, headers: Headers) -> None:
        """Pass the request on; answer by ourselves where its body may not be read."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.http_max_body:
            await self._refuse(self._too_large(), scope)
            return
        try:
            await self._app(scope, self.receive, self.send)
        except _StoppedError:
            if self._error is None or self._begun:
                raise
            await self._refuse(self._error, scope)
        finally:
            self._room.resize(self._size, 0)

    async def send(self, message: Message) -> None:
        """Pass an answer on, unless the body's own fault is what has to be answered."""
        if self._error is not None and not self._begun:
            raise _StoppedError
        self._begun = True
        await self._send(message)

    async def receive(self) -> Message:
        """Give the next part of the body."""
        if self._through:
            return await self._receive()
        message = await self._in_time(self._receive)
        if message["type"] == "http.request":
            before = self._size
            self._size += len(message.get("body", b""))
            has_room = self._room.resize(before, self._size)
            if self._size > self._settings.http_max_body:
                self._error = self._too_large()
                raise _StoppedError
            if not has_room:
                self._error = BusyError(
                    "too many large requests are being sent to this worker; send it again in a "
                    "moment"
                )
                raise _StoppedError
            self._through = not message.get("more_body", False)
        return message

    async def _in_time(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        left = self._until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                return await receive()
        except TimeoutError:
            seconds = self._settings.http_body_seconds
            self._error = TooSlowError(f"the request's body did not arrive within {seconds} s")
            raise _StoppedError from None

    async def _refuse(self, error: _Fault, scope: Scope) -> None:
        """Answer with the error, and close.

        Who still sends reads no answer, and loses it where the connection is closed before all it
        has sent was read.
        """
        if not isinstance(error, TooSlowError) and not _waits_to_be_asked(scope):
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._discard()
        answer = error_response(error, headers={"Connection": "close"})
        await answer(scope, self._receive, self._send)

    async def _discard(self) -> None:
        while not self._through:
            message = await self._receive()
            self._through = not message.get("more_body", False)

    def _too_large(self) -> TooLargeError:
        most = self._settings.http_max_body
        return TooLargeError(f"the request's body is larger than {most} bytes")


def _waits_to_be_asked(scope: Scope) -> bool:
    """Whether the client sends its body only when it is told to."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


class _StoppedError(Exception):
    """The body is not read on."""
