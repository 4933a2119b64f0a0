"""The page at /: a text, a voice, and the speech while it is made; one file, nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

PAGE = Path(__file__).with_name("page.html")


def page_router() -> APIRouter:
    """The route."""
    content = PAGE.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Content-Security-Policy": content_security_policy(content.decode()),
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "ETag": etag,
    }
    router = APIRouter()

    async def page(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type="text/html")

    router.add_api_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    return router


def content_security_policy(page: str) -> str:
    """What a browser may run and reach for the page: what stands in it, and this worker.

    Its scripts and styles are named by their hashes (Content Security Policy Level 3, 2.3.1).
    `media-src blob:` is for a recording that is heard before it is sent, `img-src data:` for the
    icon.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(page, 'script')}",
            f"style-src {_hashes(page, 'style')}",
            "connect-src 'self'",
            "media-src blob:",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(page: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (hashlib.sha256(text.encode()).digest() for text in found)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
