"""The entrance: health and the page at any time, and the app as soon as there is one."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.serve.http.answers import error_response
from worker.serve.http.door import Door

PING = "/ping"


class Entrance:
    """ASGI app that needs neither torch nor FastAPI, so that it answers while they are imported."""

    def __init__(self, door: Door, page: ASGIApp | None = None) -> None:
        self._door = door
        self._page = page
        self._health = {PING, door.settings.health_check_path}
        self.app: ASGIApp | None = None  # what answers all else

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer how the worker is; pass on the rest."""
        asks = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if asks and scope["path"] in self._health:
            await Response(status_code=self._door.state.health)(scope, receive, send)
        elif asks and scope["path"] == "/" and self._page is not None:
            await self._page(scope, receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        else:
            await error_response(self._door.closed())(scope, receive, send)


class HealthOnly:
    """ASGI app of the port that is asked for the health alone."""

    def __init__(self, door: Door) -> None:
        self._entrance = Entrance(door)
        self._entrance.app = _nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer how the worker is."""
        await self._entrance(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=404)(scope, receive, send)
