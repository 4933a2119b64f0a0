"""Parts of the OpenAPI document that FastAPI cannot know: bodies that we read ourselves, errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from worker.api.answers import ErrorAnswer

Part = dict[str, Any]
Answer = Callable[..., Awaitable[object]]

_WHY: Mapping[int, str] = MappingProxyType(
    {
        400: "The request is wrong; the message names the field and what is allowed.",
        401: "The key is missing or wrong.",
        403: "The request comes from a page of an origin that is not named.",
        404: "There is nothing under this name.",
        408: "The body, or the speech, did not come in time.",
        413: "The body or the text is too large.",
        415: "The body is of another type.",
        422: "The model's speech is unusable.",
        429: "As many requests or sentences as the worker takes are open; Retry-After says when.",
        500: "A fault of the worker's own.",
        503: "The worker loads, ends, or is short of something; Retry-After says when.",
    }
)
OF_EVERY_ROUTE = (401, 403, 408, 413, 500, 503)
OF_SPEECH = (400, *OF_EVERY_ROUTE, 404, 415, 422, 429)


def faults(*statuses: int) -> dict[int | str, Part]:
    """What a route may answer where it fails: for FastAPI's `responses`."""
    return {status: {"model": ErrorAnswer, "description": _WHY[status]} for status in statuses}


def get_and_head(router: APIRouter, path: str, answer: Answer, **options: Any) -> None:
    """Have the route answer GET, which the OpenAPI document shows, and HEAD."""
    router.add_api_route(path, answer, methods=["GET"], **options)
    router.add_api_route(path, answer, methods=["HEAD"], **{**options, "include_in_schema": False})


def json_body(model: type[BaseModel]) -> Part:
    """A route's JSON body that the route checks itself: for FastAPI's `openapi_extra`."""
    schema = schema_of(model, "validation")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def events_of(*models: type[BaseModel]) -> Part:
    """The content of a stream of server-sent events, whose data are these objects in JSON.

    Source: OpenAPI 3.2, "Media Type Object": itemSchema is of an event, its fields as texts.
    """
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"oneOf": [schema_of(model) for model in models]},
    }
    return {
        "itemSchema": {"type": "object", "properties": {"data": data}, "required": ["data"]},
    }


def schema_of(model: type[BaseModel], mode: JsonSchemaMode = "serialization") -> Part:
    """A model's JSON schema, without references. No model of ours holds itself."""
    schema = model.model_json_schema(mode=mode)
    named = schema.pop("$defs", {})
    inlined: Part = _inlined(schema, named)
    return inlined


def _inlined(part: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inlined(one, named) for one in part]
    if not isinstance(part, dict):
        return part
    if (reference := part.get("$ref")) is not None:
        meant = named[reference.rpartition("/")[2]]
        rest = {name: value for name, value in part.items() if name != "$ref"}
        return _inlined({**meant, **rest}, named)
    return {name: _inlined(value, named) for name, value in part.items()}
