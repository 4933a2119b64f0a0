"""The app: all routes, and how their errors are answered."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from worker.errors import RequestError, WorkerError
from worker.serve.http.answers import error_response
from worker.serve.http.door import Door
from worker.serve.http.health import health_router
from worker.serve.http.limits import Limits
from worker.serve.http.openai_routes import openai_router
from worker.serve.http.speech_routes import speech_router


def make_app(door: Door) -> FastAPI:
    """Make the app on this door."""
    app = FastAPI(title="Spark-TTS worker", redirect_slashes=False)
    app.include_router(health_router(door))
    app.include_router(openai_router(door))
    app.include_router(speech_router(door))
    app.add_exception_handler(WorkerError, _worker_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Limits, settings=door.settings)
    return app


async def _worker_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WorkerError)  # noqa: S101
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    message = f"{request.method} {request.url.path}: {error.detail}; /docs lists the routes"
    return error_response(RequestError(message), error.status_code)
