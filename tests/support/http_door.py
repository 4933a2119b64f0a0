"""The HTTP door on small components: the real server on a port of the loopback, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from tests.support.small_components import SmallParts
from tests.support.waiting import until
from tests.support.worker_process import free_port
from worker.components import Components
from worker.serve.http.door import Door, State
from worker.serve.http.server import HttpServer
from worker.serve.start_stages import StartStages
from worker.settings import Settings

SPEECH = "/v1/audio/speech"
LONG = 20.0  # seconds after which a test that waits has failed


class DoorServer:
    """A server in a thread of its own; `status` is its exit status once it has ended."""

    def __init__(
        self, load: Callable[[], Components], stages: StartStages | None = None, **settings: Any
    ) -> None:
        given = {"port": free_port(), "http_host": "127.0.0.1", "spark_model": "demo", **settings}
        self.settings = Settings(**given)
        self.port: int = self.settings.port
        self.status: int | None = None
        self.error: BaseException | None = None
        self._server = HttpServer(self.settings, load, end_by_force=lambda: None, stages=stages)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http door")

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                self.status = runner.run(self._server.serve())
        except BaseException as error:
            self.error = error

    def start(self) -> None:
        """Begin to serve; it is not ready yet."""
        self._thread.start()
        until(lambda: self._server.door is not None or self.over, LONG)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    @property
    def door(self) -> Door:
        """Its door."""
        door = self._server.door
        assert door is not None
        return door

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._server.connections

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        """Wait until it takes requests."""
        until(lambda: self.door.state is State.READY or self.over, LONG)
        assert not self.over, self.error

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in its event loop; does not wait for it."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def drain(self, reason: str = "SIGTERM") -> None:
        """Begin its end."""
        self.call(self.door.drain, reason)
        until(lambda: self.over or self.door.state is State.DRAINING, LONG)

    def join(self, seconds: float = LONG) -> None:
        """Wait for its end."""
        self._thread.join(seconds)
        assert self.over, "the server does not end"

    def stop(self) -> None:
        """End it, whatever is under way."""
        with suppress(RuntimeError):  # it has ended by itself
            self.call(self.door.drain, "the test is over")
            self.call(self.door.cut_off)
        self.join()

    def client(self, **options: Any) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, timeout=LONG, trust_env=False, **options)

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), LONG)


@contextmanager
def starting_door(load: Callable[[], Components], **settings: Any) -> Iterator[DoorServer]:
    """A server that listens, and may not be ready yet."""
    server = DoorServer(load, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def serving_door(parts: SmallParts, **settings: Any) -> Iterator[DoorServer]:
    """A server that takes requests, with these components and these of its settings."""
    with starting_door(lambda: parts.components, **settings) as server:
        server.wait_until_ready()
        yield server


def speech_request(body: bytes, *headers: str, path: str = SPEECH) -> bytes:
    """A request for speech, as it goes over a connection."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: worker",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
