"""One connection: uvicorn's, with the limits that it has not."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.errors import RequestError
from worker.serve.http.answers import error_body, to_json
from worker.serve.http.request_id import HEADER, new_request
from worker.serve.http.web_socket import WebSocketConnection

ABORT = "worker.abort"  # key of a scope: breaks its connection off
HEAD_BYTES = 32_768  # that the head of a request may have
HEAD_SECONDS = 30.0  # in which it must arrive
KEEP_ALIVE_SECONDS = 65  # between two requests; longer than the 60 s of most load balancers
CONNECTIONS = 2_048  # at the same time; more are closed at once


class Connection(H11Protocol):
    """A connection whose heads must come in time, and whose client has left when it says so."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_timer: asyncio.TimerHandle | None = None
        self._answered: Any = self.app  # uvicorn's types of ASGI are not Starlette's
        self.app = self._with_abort

    async def _with_abort(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ABORT] = self.transport.abort
        await self._answered(scope, receive, send)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the connection, where there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._await_head(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take what came; a request may begin with it."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._head_came()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection on."""
        self._head_came()
        super().handle_websocket_upgrade(event)
        handed_on = self.transport.get_protocol()
        if isinstance(handed_on, WebSocketConnection) and not handed_on.is_handshake:
            self.send_400_response(
                "this is no handshake of a WebSocket: it must be a GET without a body, and with "
                "short headers"
            )

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._await_head(KEEP_ALIVE_SECONDS + HEAD_SECONDS)
        before = self.cycle
        super().on_response_complete()  # which may begin a request that has come already
        if self.cycle is not before:
            self._head_came()

    def eof_received(self) -> None:
        """Take the client's end for its leaving, also where not all was written to it yet."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_came()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form of all errors."""
        body = to_json(error_body(RequestError(msg), 400))
        with new_request() as request_id:
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
                (HEADER.lower(), request_id),
            ]
        answer = (h11.Response(status_code=400, headers=headers), h11.Data(data=body))
        try:
            for part in (*answer, h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        except h11.LocalProtocolError:  # in the midst of another answer
            self.transport.abort()
            return
        self.transport.close()

    def _await_head(self, seconds: float) -> None:
        self._head_came()
        self._head_timer = self.loop.call_later(seconds, self.transport.abort)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
