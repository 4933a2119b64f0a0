"""Errors as OpenAI's API answers them, with our code, message and field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.responses import JSONResponse

from worker.api.model_names import ModelNotFoundError
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


class ForeignOriginError(RequestError):
    """The request comes from a web page of another origin than those that may use this worker.

    The operator can name the page's origin in CORS_ORIGINS, or set API_KEY.
    """

    code = "origin_not_allowed"


class TooLargeError(RequestError):
    """The request's body or its text is larger than this worker takes.

    Send less at once; the operator can raise HTTP_MAX_BODY and HTTP_MAX_TEXT.
    """

    code = "too_large"


class HeadError(RequestError):
    """The request's path and headers are larger than this worker takes.

    Send fewer cookies and headers.
    """

    code = "head_too_large"


class MediaTypeError(RequestError):
    """The request's body is of another type than its route takes.

    Send it as the Content-Type that the message names.
    """

    code = "unsupported_media_type"


class TooSlowError(RequestError):
    """The request's body did not arrive in time, or the speech was not made in time.

    Send it again, or less text at once.
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
    (ForeignOriginError, 403),
    (TooLargeError, 413),
    (MediaTypeError, 415),
    (HeadError, 431),
    (TooSlowError, 408),
    (ModelNotFoundError, 404),
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
_RETRY = (429, 503)
_TYPES: Mapping[int, str] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
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


def error_response(
    error: WorkerError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that failed."""
    status = status or status_of(error)
    own = {"Retry-After": str(RETRY_SECONDS)} if status in _RETRY else {}
    if status == 401:
        own["WWW-Authenticate"] = "Bearer"
    return Json(error_body(error, status), status, {**own, **(headers or {})})


class Json(JSONResponse):
    """JSON whatever its texts hold."""

    def render(self, content: Any) -> bytes:
        """Give the bytes; half a surrogate pair becomes JSON's own escape for it."""
        return to_json(content)


def to_json(content: object) -> bytes:
    """Write JSON: UTF-8, in one line."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")
