"""The server: it listens at once, loads meanwhile, and drains at a stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from volume.stops import STOPS, ignore_stops
from worker.errors import SetupError
from worker.logs import event
from worker.serve.http.connection import HEAD_BYTES, KEEP_ALIVE_SECONDS, Connection
from worker.serve.http.door import Door, State
from worker.serve.http.entrance import Entrance, HealthOnly
from worker.serve.http.guard import Guard
from worker.serve.http.page import Page
from worker.serve.http.running import FLUSH_SECONDS
from worker.serve.http.server_log import hear_server, log_failed_callback
from worker.serve.http.web_socket import WebSocketConnection
from worker.serve.start_stages import StartStages
from worker.settings import Settings

if TYPE_CHECKING:  # they import torch and FastAPI, which take seconds
    from worker.components import Components

FORCED_END_SECONDS = 10.0  # after the drain, for what does not listen
FILES = 8_192  # that the process may have open: a few for each connection
BACKLOG = 1_024  # connections that the kernel keeps until they are accepted
MESSAGE_BYTES = 1_000_000  # of a WebSocket
PING_SECONDS = 20.0  # between two pings of a WebSocket, which keep proxies from closing it

Load = Callable[[], "Components"]


def serve_http(settings: Settings, load: Load, stages: StartStages | None = None) -> int:
    """Serve until a stop; give the exit status. `load` is called in a thread of its own.

    Raises SetupError where a port cannot be had, or what `load` raises.
    """
    return asyncio.run(HttpServer(settings, load, stages=stages).serve())


class HttpServer:
    """Two servers at most, of one door: requests, and where it has a port of its own, health."""

    def __init__(
        self,
        settings: Settings,
        load: Load,
        end_by_force: Callable[[], None] | None = None,
        stages: StartStages | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._stages = stages
        self._end_by_force = end_by_force or _end_by_force
        self.door: Door | None = None  # once it serves
        self._servers: list[_Server] = []

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(len(server.server_state.connections) for server in self._servers)

    async def serve(self) -> int:
        """Serve until a stop, as serve_http does."""
        hear_server()
        _allow_files()
        asyncio.get_running_loop().set_exception_handler(log_failed_callback)
        settings = self._settings
        door = self.door = Door(settings, self._stages)
        entrance = Entrance(door, Page())
        servers = self._servers
        servers.append(_Server(door, entrance, _listen(settings, "port")))
        if settings.port_health not in (None, settings.port):
            servers.append(_Server(door, HealthOnly(door), _listen(settings, "port_health")))
        event(logging.INFO, "http listens", host=settings.http_host, port=settings.port)
        serving = [asyncio.create_task(server.serve()) for server in servers]
        loading = asyncio.create_task(self._open(door, entrance))
        forcing = asyncio.create_task(self._force_an_end(door))
        ended = asyncio.create_task(door.ended.wait())
        await asyncio.wait({ended, *serving}, return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        forcing.cancel()
        if door.reason is None:  # it could not be opened
            await loading
        _hear_no_more_stops()
        event(logging.INFO, "worker ends", reason=door.reason)
        return 1 if door.broken else 0

    async def _open(self, door: Door, entrance: Entrance) -> None:
        """Load in a thread, and open the door. Until then a stop is the kernel's (volume.stops)."""
        try:
            components, app = await asyncio.to_thread(self._make, door)
        except BaseException:
            door.shut()
            raise
        _hear_stops(door)
        entrance.app = app
        door.open(components)
        slots = components.engine.slots
        event(logging.INFO, "http ready", requests=door.limit, slots=slots)
        if self._stages is not None:
            self._stages.ready()

    async def _force_an_end(self, door: Door) -> None:
        """End the process where a thread hangs; as a daemon it does not hold up a good end."""
        await door.draining.wait()
        seconds = door.settings.drain_seconds + FORCED_END_SECONDS
        forced = threading.Timer(seconds, self._end_by_force)
        forced.daemon = True
        forced.start()

    def _make(self, door: Door) -> tuple[Components, ASGIApp]:
        components = self._load()
        from worker.serve.http.app import make_app  # noqa: PLC0415

        return components, make_app(door)


class _Server(uvicorn.Server):
    """Uvicorn, which ends with the door."""

    def __init__(self, door: Door, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                Guard(app, door),
                http=Connection,
                h11_max_incomplete_event_size=HEAD_BYTES,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                backlog=BACKLOG,
                lifespan="off",
                ws=WebSocketConnection,
                ws_max_size=MESSAGE_BYTES,
                ws_ping_interval=PING_SECONDS,
                # A session that is read no faster than it is spoken hears no pongs meanwhile; what
                # takes nothing, or says nothing, it ends by itself.
                ws_ping_timeout=None,
                ws_per_message_deflate=False,  # audio is none the smaller, and a bomb could be sent
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
            )
        )
        self._door = door
        self._listener = listener

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`."""
        await super().serve(sockets or [self._listener])

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the stops to the door: uvicorn's own would end the answers under way."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more; what is still being sent has until the end of the drain."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state, loop = self.server_state, asyncio.get_running_loop()
        for connection in tuple(state.connections):
            connection.shutdown()
        until = max(self._door.end_at, loop.time() + FLUSH_SECONDS)
        while (state.connections or state.tasks) and loop.time() < until:
            await asyncio.sleep(0.02)
        for connection in tuple(state.connections):
            connection.transport.abort()
        for task in tuple(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def _allow_files() -> None:
    """Let the process open a file for each connection, and those of its work, where it may.

    Many systems give a process 1,024 unless it asks for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(settings: Settings, setting: str) -> socket.socket:
    """Listen on the port of this setting. Raises SetupError where that cannot be had."""
    host, port = settings.http_host, int(getattr(settings, setting))
    name = setting.upper()
    ipv6 = ":" in host
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ipv6 else socket.AF_INET,
            backlog=BACKLOG,
            dualstack_ipv6=ipv6 and host == "::",
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SetupError(
            f"{name}: the worker cannot listen on port {port} of {host} ({reason}); set {name} to "
            "a port that is free, above 1023 where the user is not root, and HTTP_HOST to an "
            "address of this machine"
        ) from None


def _hear_stops(door: Door) -> None:
    """Drain at SIGTERM and SIGINT; a second SIGINT, as of Ctrl-C, ends the drain."""
    if threading.current_thread() is not threading.main_thread():
        return
    for stop in STOPS:
        asyncio.get_running_loop().add_signal_handler(stop, _stop, door, stop)


def _stop(door: Door, stop: signal.Signals) -> None:
    if door.state is State.DRAINING and stop is signal.SIGINT:
        door.cut_off()
    door.drain(stop.name)


def _hear_no_more_stops() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for stop in STOPS:
        asyncio.get_running_loop().remove_signal_handler(stop)
    ignore_stops()


def _end_by_force() -> None:
    event(logging.ERROR, "ended by force")
    os._exit(1)
