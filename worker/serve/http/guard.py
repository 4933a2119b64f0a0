"""What stands around all else: an id for each answer, and an answer for each unforeseen fault."""

from __future__ import annotations

import logging

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.errors import RequestError, WorkerError
from worker.logs import event
from worker.serve.failures import for_the_user
from worker.serve.http.answers import HeadError, error_response
from worker.serve.http.connection import HEAD_BYTES
from worker.serve.http.door import Door, State
from worker.serve.http.request_id import HEADER, new_request

HEADERS = 100  # of one request


class CutError(Exception):
    """The answer was begun and cannot be ended: the connection is closed, as a fault's is."""


class Guard:
    """ASGI middleware around the app, and around what answers before there is one."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer where that fails."""
        with new_request() as request_id:
            answer = _Answer(send, request_id, self._door)
            try:
                check_head(scope)
            except RequestError as error:  # nobody can say where the next request begins
                refusal = error_response(error, headers={"Connection": "close"})
                await refusal(scope, receive, answer.send)
                return
            try:
                await self._app(scope, receive, answer.send)
            except CutError:
                raise
            except ClientDisconnect:  # while its body was read: nobody is there to be answered
                return
            except Exception as fault:
                shown = fault if isinstance(fault, WorkerError) else _logged(fault, request_id)
                if answer.begun:
                    raise CutError from None
                await error_response(shown)(scope, receive, answer.send)


def check_head(scope: Scope) -> None:
    """Raise what is wrong with a request's head.

    HeadError where it is too large: h11 bounds only one that is cut up. RequestError where it has
    two lengths of the body, by which a proxy before us may have seen another request (RFC 9112,
    6.1).
    """
    headers = scope["headers"]
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        raise RequestError("a request has either Content-Length or Transfer-Encoding")
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in headers)
    if size > HEAD_BYTES or len(headers) > HEADERS:
        raise HeadError(
            f"the request's head is larger than {HEAD_BYTES} bytes, or has more than {HEADERS} "
            "headers"
        )


def _logged(fault: Exception, request_id: str) -> WorkerError:
    event(logging.ERROR, "request failed", cause=fault)
    return for_the_user(fault, request_id)


class _Answer:
    """Notes whether an answer was begun, and adds the headers that every one has."""

    def __init__(self, send: Send, request_id: str, door: Door) -> None:
        self._send = send
        self._id = request_id
        self._door = door
        self.begun = False

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers.setdefault(HEADER, self._id)
            if self._door.state is State.DRAINING:
                headers["Connection"] = "close"
        elif message["type"] in ("websocket.accept", "websocket.close"):
            self.begun = True
        await self._send(message)
