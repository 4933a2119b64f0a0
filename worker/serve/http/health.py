"""How the worker is: for load balancers, for people, and for Prometheus.

/ping needs no key, since load balancers and Docker bring none, and says nothing but its status.
/health says more to who brings the key. /metrics needs it: what it counts is the operator's.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from worker.api.answers import Health
from worker.serve.http.answers import Json
from worker.serve.http.door import Door, State
from worker.serve.http.entrance import PING
from worker.serve.http.limits import has_key
from worker.serve.http.metrics import CONTENT_TYPE, Metrics
from worker.serve.http.schemas import Part, faults, get_and_head

_PINGS: dict[int | str, Part] = {
    200: {"description": "Requests are taken."},
    204: {"description": "The model is being loaded."},
    503: {"description": "The worker ends."},
}


def health_router(door: Door, metrics: Metrics) -> APIRouter:
    """The routes, on this door."""
    router = APIRouter(tags=["health"])

    async def ping() -> Response:
        """How the worker is, by the status alone. The entrance answers it; this documents it."""
        return Response(status_code=door.state.health)

    for path in sorted({PING, door.settings.health_check_path}):
        get_and_head(router, path, ping, response_class=Response, responses=_PINGS)

    async def health(request: Request) -> Response:
        """How the worker is, in words."""
        told = health_of(door, details=has_key(request.headers, door.settings))
        return Json(told.model_dump(mode="json", exclude_none=True), door.state.health)

    get_and_head(
        router,
        "/health",
        health,
        response_model=None,
        responses={
            200: {"model": Health, "description": "Requests are taken."},
            503: {"model": Health, "description": "The worker ends."},
        },
    )

    async def measured() -> Response:
        """What Prometheus reads."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    get_and_head(
        router,
        "/metrics",
        measured,
        response_class=Response,
        responses={
            200: {"description": "The metrics.", "content": {"text/plain": {}}},
            **faults(401, 500, 503),
        },
    )
    return router


def health_of(door: Door, *, details: bool) -> Health:
    """How the worker is, once it is loaded."""
    status = "ready" if door.state is State.READY else "draining"
    components = door.loaded
    if not details or components is None:
        return Health(status=status)
    speaking, waiting = components.engine.count()
    return Health(
        status=status,
        model=door.settings.spark_model,
        requests=door.open_requests,
        limit=door.limit,
        slots=components.engine.slots,
        speaking=speaking,
        waiting=waiting,
    )
