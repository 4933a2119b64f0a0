"""What a request must bring and may not exceed, before any route sees it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.serve.http.answers import (
    TooLargeError,
    TooSlowError,
    UnauthorizedError,
    error_response,
)
from worker.settings import Settings

OPEN_PATHS = ("/", "/ping")  # that need no key: the page, which holds nothing, and the health


class Limits:
    """ASGI middleware: the key, the size of the body, and the time in which it must arrive."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._open = {*OPEN_PATHS, settings.health_check_path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what may not pass; pass on the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["path"] not in self._open and not has_key(headers, self._settings):
            error = UnauthorizedError(
                "the key is missing or wrong; send the worker's API_KEY as Authorization: Bearer "
                "KEY, or as X-API-Key: KEY"
            )
            await error_response(error)(scope, receive, send)
            return
        await _Body(self._app, receive, send, self._settings).run(scope, headers)


def has_key(headers: Headers, settings: Settings) -> bool:
    """Whether a request brings the worker's key, where that has one; takes the same time always."""
    if settings.api_key is None:
        return True
    key = settings.api_key.get_secret_value().encode()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    given = (bearer.encode(), headers.get("x-api-key", "").encode())
    # No `or`: both are compared, whatever comes of the first.
    return sum(hmac.compare_digest(one, key) for one in given) > 0


class _Body:
    """Counts and times the body of one request while the app reads it."""

    def __init__(self, app: ASGIApp, receive: Receive, send: Send, settings: Settings) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._settings = settings
        self._size = 0
        self._through = False
        self._begun = False
        self._error: TooLargeError | TooSlowError | None = None
        self._until = asyncio.get_running_loop().time() + settings.http_body_seconds

    async def run(self, scope: Scope, headers: Headers) -> None:
        """Pass the request on; answer by ourselves where its body may not be read."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.http_max_body:
            await error_response(self._too_large())(scope, self._receive, self._send)
            return
        try:
            await self._app(scope, self.receive, self.send)
        except _StoppedError:
            if self._error is None or self._begun:
                raise
            await error_response(self._error)(scope, self._receive, self._send)

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
            self._size += len(message.get("body", b""))
            if self._size > self._settings.http_max_body:
                self._error = self._too_large()
                raise _StoppedError
            self._through = not message.get("more_body", False)
        return message

    async def _in_time(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        left = self._until - asyncio.get_running_loop().time()
        try:
            return await asyncio.wait_for(receive(), max(left, 0.001))
        except TimeoutError:
            seconds = self._settings.http_body_seconds
            self._error = TooSlowError(f"the request's body did not arrive within {seconds} s")
            raise _StoppedError from None

    def _too_large(self) -> TooLargeError:
        most = self._settings.http_max_body
        return TooLargeError(f"the request's body is larger than {most} bytes")


class _StoppedError(Exception):
    """The body is not read on."""
