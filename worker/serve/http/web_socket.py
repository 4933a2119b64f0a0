"""A connection that became a WebSocket: uvicorn's, with the limits that it has not."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

FRAMES = 1_000  # of one message: each costs more than its bytes
LINGER_SECONDS = 5.0  # for a client that goes on sending what was refused


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket whose client cannot have answers heaped up that it does not read."""

    @property
    def is_handshake(self) -> bool:
        """Whether the request that it was made of begins a WebSocket, or was refused as one.

        One that the protocol's parser does not take (with a body, or more headers than it counts)
        uvicorn leaves without an answer, for ever.
        """
        return self.handshake_initiated

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a handshake that was refused is one that was answered, and no fault of ours."""
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer a ping; one whose answer would wait is passed over (RFC 6455, 5.5.3)."""
        answer = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(answer)

    def handle_cont(self, event: Frame) -> None:
        """Take the next frame of a message, where there are not too many."""
        if self.close_sent:
            return
        if len(self.frames) < FRAMES:
            super().handle_cont(event)
            return
        self.conn.send_close(CloseCode.MESSAGE_TOO_BIG, f"more than {FRAMES} frames")
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Close as the parser says, and drop what still comes.

        A connection that is closed with something unread is reset, and the client may lose the
        frame that says why; so the client closes it, or the time does.
        """
        if self.close_sent:
            return
        close = self.conn.close_sent
        if close is None:
            raise ValueError("the parser has not closed the connection")
        self.close_sent = True
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
