"""Errors as OpenAI's API answers them, with our code, message and field."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import JSONResponse

from worker.errors import (
    BusyError,
    DeviceError,
    DownloadError,
    JobCancelledError,
    MemoryShortError,
    NotFoundError,
    RequestError,
    SetupError,
    StorageError,
    SynthesisError,
    VoiceError,
    WorkerError,
)

RETRY_SECONDS = 2  # after which it is worth asking again


class UnauthorizedError(RequestError):
    """The request brings no key, or a wrong one.

    Send the worker's API_KEY as `Authorization: Bearer KEY`.
    """

    code = "invalid_api_key"


class TooLargeError(RequestError):
    """The request's body or its text is larger than this worker takes.

    Send less at once; the operator can raise HTTP_MAX_BODY and HTTP_MAX_TEXT.
    """

    code = "too_large"


class TooSlowError(RequestError):
    """The request's body did not arrive in time, or no sound was made in time.

    Send it again.
    """

    code = "timeout"


class DoorClosedError(WorkerError):
    """The worker is loading its model, or is ending.

    Send the request again in a moment.
    """

    code = "not_ready"


# The first that an error is an instance of counts.
_STATUS: tuple[tuple[type[WorkerError], int], ...] = (
    (UnauthorizedError, 401),
    (TooLargeError, 413),
    (TooSlowError, 408),
    (RequestError, 400),
    (VoiceError, 400),
    (DownloadError, 400),
    (SynthesisError, 422),
    (NotFoundError, 404),
    (StorageError, 503),
    (BusyError, 429),
    (JobCancelledError, 499),
    (MemoryShortError, 503),
    (DeviceError, 503),
    (SetupError, 503),
    (DoorClosedError, 503),
)
_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
)


def status_of(error: WorkerError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_body(error: WorkerError, status: int) -> dict[str, dict[str, str | None]]:
    """The error as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(status, kind),
            "param": error.field,
            "code": error.code,
        }
    }


def error_response(error: WorkerError, status: int | None = None) -> JSONResponse:
    """The answer to a request that failed."""
    status = status or status_of(error)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error, status), status, headers)
