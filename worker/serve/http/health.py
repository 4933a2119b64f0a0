"""Health: what a load balancer asks."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from worker.serve.http.door import Door


def health_router(door: Door) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(tags=["health"])

    async def ping() -> Response:
        """204 while the model is loaded, 200 when requests are taken, 503 while the worker ends."""
        return Response(status_code=door.state.health)

    for path in {"/ping", door.settings.health_check_path}:
        router.add_api_route(path, ping, methods=["GET", "HEAD"])
    return router
