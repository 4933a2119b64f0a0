"""An https server on the loopback with a certificate authority of its own, for one test module."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trustme
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class HttpsServer:
    """`port` on 127.0.0.1; `trust` is a client context that knows the server's authority.

    `seen` holds path and headers of each request.
    """

    port: int
    trust: ssl.SSLContext
    seen: list[tuple[str, dict[str, str]]]

    def url(self, path: str, host: str = "voice.example") -> str:
        return f"https://{host}:{self.port}{path}"


@contextmanager
def https_server(routes: dict[str, Handler], *names: str) -> Iterator[HttpsServer]:
    """Serve `routes` (path -> handler) under a certificate for `names`, in a thread."""
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(served)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    seen: list[tuple[str, dict[str, str]]] = []

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append((request.path_qs, dict(request.headers)))
        return await handler(request)

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application(middlewares=[note])
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served)
        await site.start()
        return runner, runner.addresses[0][1]

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield HttpsServer(port, trust, seen)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
