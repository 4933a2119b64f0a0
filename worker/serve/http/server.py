"""The server: it listens at once, loads meanwhile, and drains at a stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from worker.components import Components
from worker.errors import SetupError
from worker.logs import event
from worker.serve.http.app import make_app
from worker.serve.http.door import Door
from worker.serve.http.health import health_router
from worker.settings import Settings

WS_MESSAGE_BYTES = 1 << 19  # the longest text, each character as two escapes of JSON, and more
FORCED_END_SECONDS = 10.0  # after the drain, for what does not listen


def serve_http(settings: Settings, load: Callable[[], Components]) -> int:
    """Serve until a stop; give the exit status. `load` is called in a thread of its own.

    Raises SetupError where a port cannot be had, or what `load` raises.
    """
    return asyncio.run(_serve(settings, load))


async def _serve(settings: Settings, load: Callable[[], Components]) -> int:
    door = Door(settings)
    ports = {settings.port: make_app(door)}
    if settings.port_health is not None and settings.port_health != settings.port:
        ports[settings.port_health] = _health_app(door)
    servers = [_Server(door, app) for app in ports.values()]
    sockets = [_listen(settings.http_host, port) for port in ports]
    loading = asyncio.create_task(_load(door, load))
    serving = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, sockets, strict=True)
    ]
    event(logging.INFO, "http listens", host=settings.http_host, port=settings.port)
    ended = asyncio.create_task(door.ended.wait())
    await asyncio.wait({ended, *serving}, return_when=asyncio.FIRST_COMPLETED)
    _force_an_end()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving)
    if loading.done() and not loading.cancelled() and (error := loading.exception()):
        raise error
    event(logging.INFO, "worker ends", reason=door.reason)
    return 1 if door.broken else 0


async def _load(door: Door, load: Callable[[], Components]) -> None:
    """Load in a thread, and open the door."""
    try:
        components = await asyncio.to_thread(load)
    except BaseException:
        door.drain("setup failed")
        raise
    gc.freeze()
    gc.enable()
    door.open(components)
    event(logging.INFO, "http ready", requests=door.limit)


def _health_app(door: Door) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.include_router(health_router(door))
    return app


class _Server(uvicorn.Server):
    """Uvicorn, where a stop begins the drain of the door."""

    def __init__(self, door: Door, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=WS_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # audio does not shrink
                # A socket that is read no faster than it is spoken answers no pings meanwhile.
                ws_ping_timeout=None,
            )
        )
        self._door = door

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin the drain; uvicorn's own would end the requests that are being answered."""
        self._door.drain(signal.Signals(sig).name)


def _listen(host: str, port: int) -> socket.socket:
    """Listen there. Raises SetupError where that cannot be had."""
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise SetupError(
            f"PORT: the worker cannot listen on {host}:{port} ({error.strerror}); set PORT to a "
            "free one, above 1023 where the user is not root"
        ) from None


def _force_an_end() -> None:
    """End the process where a thread hangs; as a daemon it does not hold up a good end."""
    forced = threading.Timer(FORCED_END_SECONDS, _end_by_force)
    forced.daemon = True
    forced.start()


def _end_by_force() -> None:
    event(logging.ERROR, "ended by force")
    os._exit(1)
