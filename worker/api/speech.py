"""The body of a request to the worker's own HTTP route: the queue's input, and how it is answered.

The same object that a job of the queue has under "input"; {"input": {...}} is taken too, as the
queue's own clients send it. `stream` says here whether the answer is a stream of events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from worker.api.request import SpeechRequest, parse_request
from worker.audio.formats import StreamFormat
from worker.errors import RequestError
from worker.redaction import redact

DEFAULT_FORMAT: StreamFormat = "pcm"  # a piece of it can be played by itself


@dataclass(frozen=True)
class AskedSpeech:
    """A request for speech at the worker's own route."""

    request: SpeechRequest
    streams: bool  # whether the answer is a stream of events
    response_format: StreamFormat  # of the audio in the events


def parse_speech(body: object, *, streams: bool = False) -> AskedSpeech:
    """Check the body of a request, as JSON gave it; `streams` counts where the body does not say.

    Raises RequestError naming the field.
    """
    given = job_input(body)
    response_format = take_format(given)
    request = parse_request(given)
    streams = streams if request.stream is None else request.stream
    if response_format is not None and not streams:
        raise RequestError(
            "response_format: only a stream has one; give output_format, or stream: true",
            field="response_format",
        )
    return AskedSpeech(request, streams, response_format or DEFAULT_FORMAT)


def job_input(body: object) -> dict[str, Any]:
    """The fields of a job. Raises RequestError where the body is no object."""
    if isinstance(body, dict) and set(body) == {"input"} and isinstance(body["input"], dict):
        body = body["input"]
    if not isinstance(body, dict):
        raise RequestError(
            f"the body: {redact(body)} is not allowed; it must be an object with at least the "
            "field text",
            field="text",
        )
    return dict(body)


def take_format(given: dict[str, Any]) -> StreamFormat | None:
    """Take `response_format` out of the fields; None where it is not given."""
    value = given.pop("response_format", None)
    if value is not None and value not in get_args(StreamFormat):
        raise RequestError(
            f"response_format: {redact(value)} is not allowed; it must be one of "
            f"{', '.join(get_args(StreamFormat))}",
            field="response_format",
        )
    return value  # type: ignore[no-any-return]  # one of them
