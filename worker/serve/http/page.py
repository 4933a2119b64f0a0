"""The page at /: a text, a voice, and the speech while it is made; one file, nothing else.

It is answered at the entrance, so that it can say that the model is loading.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PAGE = Path(__file__).with_name("page.html")


class Page:
    """ASGI app that answers GET and HEAD with the page."""

    def __init__(self) -> None:
        self._content = PAGE.read_bytes()
        self._etag = f'"{hashlib.sha256(self._content).hexdigest()[:32]}"'
        self._headers = {
            "Content-Security-Policy": content_security_policy(self._content.decode()),
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
            "ETag": self._etag,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or that it is the one that the browser has."""
        known = Request(scope).headers.get("if-none-match") == self._etag
        content, status = (b"", 304) if known else (self._content, 200)
        answer = Response(content, status, self._headers, "text/html")
        await answer(scope, receive, send)


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
