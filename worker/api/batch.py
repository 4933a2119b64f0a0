"""The body of a batch: many requests in one, each with an answer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, get_args

from worker.api.openai import parse_openai
from worker.api.request import SpeechRequest, parse_request
from worker.api.speech import job_input
from worker.audio.formats import PCM_RATE, Format
from worker.errors import RequestError
from worker.redaction import redact

MAX_ITEMS = 32


def parse_batch(body: object) -> list[object]:
    """The items of a batch, none of them checked yet.

    Raises RequestError where the body is no batch.
    """
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        raise RequestError(
            f"items: {redact(items)} is not allowed; it must be a list of 1 to {MAX_ITEMS} "
            "requests",
            field="items",
        )
    if unknown := cast("dict[object, Any]", body).keys() - {"items"}:
        name = redact(min(unknown, key=str)).strip("'")
        raise RequestError(f"{name} is not a field of a batch; it has items alone", field=name)
    return items


def parse_item(item: object, model: str, is_builtin: Callable[[str], bool]) -> SpeechRequest:
    """Check one item: the body of a request to OpenAI's route, or the input of a job.

    Each is answered with URLs, so its audio has one of the formats that are stored. Raises
    RequestError naming the field.
    """
    given = job_input(item)
    if "input" not in given:
        return parse_request(given)
    chosen = given.pop("response_format", None)
    if given.get("stream_format") == "sse":
        raise RequestError(
            "stream_format: an item of a batch is not streamed; leave it out", field="stream_format"
        )
    if chosen is not None and chosen not in get_args(Format):
        raise RequestError(
            f"response_format: {redact(chosen)} is not allowed; an item of a batch is stored, as "
            f"one of {', '.join(get_args(Format))}",
            field="response_format",
        )
    if chosen is not None and given.get("output_format") not in (None, chosen):
        raise RequestError(
            "response_format and output_format are two names of one thing here; give one of them",
            field="response_format",
        )
    if chosen is not None:
        given["output_format"] = chosen
    if chosen == "pcm" and given.get("sample_rate") is None:
        given["sample_rate"] = PCM_RATE  # which OpenAI's pcm always has
    return parse_openai(given, model, is_builtin, stored=True).request
