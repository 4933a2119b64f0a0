"""A server on the loopback that does with each connection what a test says, HTTP or not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Behaviour = Callable[[socket.socket, int], None]  # a connection, how many came before it


@dataclass
class RawServer:
    """`requests` holds what was read of each connection's first 64 kB."""

    behave: Behaviour
    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def raw_server(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Read a request from each connection, then `behave`; each has a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawServer(behave, listening.getsockname()[1])
        ended = threading.Event()
        kept: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with suppress(OSError):
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                kept.append(connection)
                if request := connection.recv(65536):
                    number = len(server.requests)
                    server.requests.append(request)
                    server.behave(connection, number)

        def accept() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    connection, _ = listening.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        listening.settimeout(0.05)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join()
            for connection in kept:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def answer(status: str, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer so and close; a header's name has `_` for `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = "\r\n".join([*lines, "", ""]).encode() + body

    def behave(connection: socket.socket, _: int) -> None:
        connection.sendall(whole)
        connection.shutdown(socket.SHUT_WR)

    return behave
