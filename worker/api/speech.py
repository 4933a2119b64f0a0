"""The body of a request to the worker's own HTTP route: the queue's input, and how it is answered.

The same object that a job of the queue has under "input"; {"input": {...}} is taken too, as the
queue's own clients send it. `stream` says here whether the answer is a stream of events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from worker.api.audio_fields import check_live
from worker.api.request import SpeechRequest, parse_request
from worker.audio.formats import Format, StreamFormat
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
    asked = given.get("stream")
    if asked is True or (streams and asked is None):
        chosen = response_format or DEFAULT_FORMAT
        return AskedSpeech(parse_live(given, chosen), streams=True, response_format=chosen)
    request = parse_request(given)
    if response_format is not None:
        raise RequestError(
            "response_format: only a stream has one; give output_format, or stream: true",
            field="response_format",
        )
    return AskedSpeech(request, streams=False, response_format=DEFAULT_FORMAT)


def parse_live(given: dict[str, Any], response_format: StreamFormat) -> SpeechRequest:
    """Check the fields of a request whose audio is sent while it is made, in this format.

    What they say of a file counts for nothing, as long as it could be one's. Raises RequestError
    naming the field.
    """
    request = parse_request(of_format(given, response_format))
    check_live(request, response_format)
    return request


def of_format(given: dict[str, Any], response_format: StreamFormat) -> dict[str, Any]:
    """The fields with the format that the audio will have, unless theirs is none at all."""
    if given.get("output_format") not in (None, *get_args(Format)):
        return given
    return {**given, "output_format": response_format}


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
