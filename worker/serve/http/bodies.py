"""The JSON bodies of requests."""

from __future__ import annotations

import json
from email.message import Message

from starlette.requests import Request

from worker.bounded_json import check_json
from worker.errors import RequestError
from worker.redaction import redact
from worker.serve.http.answers import MediaTypeError, TooLargeError

# Of one body. Parsing holds up all other requests for so long; the longest texts of a whole batch,
# with every character escaped, are shorter.
JSON_BYTES = 8_000_000
# What becomes a hundred times as large when it is parsed; a whole batch has a tenth of it.
OBJECTS, VALUES = 1_000, 20_000
LISTS = 64  # the items of a batch, each with its turns


async def json_body(request: Request, most: int = JSON_BYTES) -> object:
    """The body of a request, as JSON.

    Raises MediaTypeError where it is declared to be something else, TooLargeError for more than
    `most` bytes, RequestError where it is no JSON.
    """
    declared = request.headers.get("content-type")
    if declared is not None and not _is_json(declared):
        raise MediaTypeError(
            f"Content-Type: {redact(declared)} is not allowed; send the body as application/json",
        )
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise TooLargeError(f"the request's body is larger than {most} bytes of JSON")
    try:
        check_json(bytes(body), objects=OBJECTS, values=VALUES, lists=LISTS)
    except ValueError as error:
        raise TooLargeError(f"the request's body holds too much: {error}", field="body") from None
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON ({redact_fault(error)})", field="body") from None


def redact_fault(error: ValueError | RecursionError) -> str:
    """What is wrong with a text that is no JSON, without the text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "a number in it has too many digits"


def _is_json(declared: str) -> bool:
    header = Message()
    header["Content-Type"] = declared.replace("\r", "").replace("\n", "")
    subtype = header.get_content_subtype()
    return header.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def _no_number(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is no number", "", 0)
