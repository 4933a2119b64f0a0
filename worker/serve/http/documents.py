"""/docs: the routes, as a page; /openapi.json is what it is made from.

FastAPI's own page has its scripts from another server, which would learn who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from worker.serve.http.schemas import get_and_head

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;"
    "margin:2rem auto;padding:0 1rem}code{font-family:ui-monospace,monospace}"
    "h2{margin-top:2.5rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;"
    "border-top:1px solid #8886}"
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def documents_router(app: FastAPI) -> APIRouter:
    """The route, for the document of this app."""
    router = APIRouter()

    async def page() -> Response:
        text = "".join(_page(app.openapi()))
        return Response(text, media_type="text/html", headers=_HEADERS)

    get_and_head(router, "/docs", page, include_in_schema=False)
    return router


def _page(document: dict[str, Any]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<style>{_STYLE}</style><h1>{title}</h1>"
    yield '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            yield from _route(path, method, route)


def _route(path: str, method: str, route: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    yield f"<p>{escape(route.get('description', ''))}</p>"
    fields: dict[str, Any] = {}
    for content in route.get("requestBody", {}).get("content", {}).values():
        fields |= content.get("schema", {}).get("properties", {})
    if fields:
        yield "<table><tr><th>Field<th>May be<th>Meaning"
        for name, schema in fields.items():
            meaning = escape(schema.get("description", ""))
            yield f"<tr><td><code>{escape(name)}</code><td>{escape(_may_be(schema))}<td>{meaning}"
        yield "</table>"
    yield "<table><tr><th>Status<th>Content<th>Meaning"
    for status, answer in route["responses"].items():
        kinds = "<br>".join(map(escape, answer.get("content", {})))
        yield f"<tr><td>{escape(status)}<td>{kinds}<td>{escape(answer.get('description', ''))}"
    yield "</table>"


def _may_be(schema: dict[str, Any]) -> str:
    """What a field may be, in a few words."""
    if (choices := schema.get("anyOf")) is not None:
        return " or ".join(_may_be(one) for one in choices if one.get("type") != "null")
    if (values := schema.get("enum")) is not None:
        return ", ".join(map(str, values))
    words = [str(schema.get("type", "any"))]
    words += [f"{word} {schema[key]}" for key, word in _BOUNDS if key in schema]
    return " ".join(words)


_BOUNDS = (("minimum", "from"), ("maximum", "to"))
