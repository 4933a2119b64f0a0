"""The app: all routes, and how their errors are answered."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from worker.errors import RequestError, WorkerError
from worker.redaction import redact
from worker.serve.failures import for_the_user
from worker.serve.http.answers import MediaTypeError, TooLargeError, error_response
from worker.serve.http.batch_routes import batch_router
from worker.serve.http.documents import documents_router
from worker.serve.http.door import Door
from worker.serve.http.health import health_router
from worker.serve.http.limits import Limits
from worker.serve.http.metrics import Measured, Metrics
from worker.serve.http.openai_routes import openai_router
from worker.serve.http.origins import Origins
from worker.serve.http.request_id import request_id
from worker.serve.http.speech_routes import speech_router
from worker.serve.http.text_socket import text_socket_router
from worker.serve.http.voice_routes import voice_router


def make_app(door: Door) -> FastAPI:
    """Make the app on this door."""
    metrics = Metrics(door)
    app = FastAPI(
        title="Spark-TTS worker",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(openai_router(door))
    app.include_router(speech_router(door))
    app.include_router(batch_router(door))
    app.include_router(voice_router(door))
    app.include_router(text_socket_router(door))
    app.include_router(health_router(door, metrics))
    app.include_router(documents_router(app))
    app.add_exception_handler(WorkerError, _worker_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _fault)
    # The last that is added is the first that a request comes to.
    app.add_middleware(Limits, settings=door.settings)
    app.add_middleware(Origins, settings=door.settings)
    app.add_middleware(Measured, metrics=metrics)
    app.openapi()  # made once, before anybody waits for it
    return app


async def _worker_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WorkerError)  # noqa: S101 - what it is registered for
    return error_response(error)


async def _fault(_request: Request, error: Exception) -> Response:
    """What nobody foresaw. Starlette raises it once more when this is sent: the guard logs it."""
    return error_response(for_the_user(error, request_id()))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI refuse by themselves: paths, methods, bodies of forms."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    where = f"{request.method} {redact(request.url.path)}"
    fault = _KINDS.get(error.status_code, RequestError)(
        f"{where}: {error.detail}; /docs lists the routes"
    )
    return error_response(fault, error.status_code, error.headers)


_KINDS: dict[int, type[RequestError]] = {413: TooLargeError, 415: MediaTypeError}


async def _validation_error(_request: Request, error: Exception) -> Response:
    """What FastAPI finds wrong with a parameter or a part of a form."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    first = error.errors()[0]
    field = str(first["loc"][-1])
    given = f" ({redact(first['input'])} was given)" if first.get("input") is not None else ""
    return error_response(RequestError(f"{redact(field)}: {first['msg']}{given}", field=field))
