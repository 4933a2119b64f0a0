"""Which web pages may use the worker: its own, and those of the origins that CORS_ORIGINS names."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.redaction import redact
from worker.serve.http.answers import ForeignOriginError, error_response
from worker.serve.http.request_id import HEADER
from worker.settings import Settings

ANY = "*"
_READS = ("GET", "HEAD", "OPTIONS")  # methods that change nothing: a foreign page cannot read them
_SHOWN = (HEADER, "X-Unsupported", "Retry-After")  # headers of ours that such a page may read


class Origins:
    """ASGI middleware: CORS for the origins that are named, and no other page's requests.

    A browser sends a page's simple requests anywhere and asks only before the page may read the
    answer; WebSockets it lets through at once. So where no key is needed, any page that somebody
    looks at could have this worker speak, or make voices, in a network that it cannot reach
    itself. What a browser says of a page's origin decides; other clients say nothing.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._named = origins_of(settings)
        self._asks_for_key = settings.api_key is not None
        self._is_local = _is_loopback(settings.http_host)
        self._app = app
        if self._named:
            self._app = CORSMiddleware(
                app,
                allow_origins=self._named,
                allow_methods=["GET", "HEAD", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=_SHOWN,
                max_age=3600,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope.get("method") not in _READS
        if origin is None or not changes or self._asks_for_key or self._may(origin, headers):
            await self._app(scope, receive, send)
            return
        error = ForeignOriginError(
            f"pages of {redact(origin)} may not use this worker; its operator can name them in "
            "CORS_ORIGINS"
        )
        await error_response(error)(scope, receive, send)

    def _may(self, origin: str, headers: Headers) -> bool:
        if ANY in self._named or origin in self._named:
            return True
        # A name that leads to this machine today may have been the page's own server a moment ago
        # (DNS rebinding), and the browser takes both for one origin.
        if self._is_local and not _is_of_this_machine(origin):
            return False
        # A browser's own word, which no page can write; older ones are judged by the host's name,
        # which a load balancer may have changed.
        if (site := headers.get("sec-fetch-site")) is not None:
            return site == "same-origin"
        return urlsplit(origin).netloc == headers.get("host")


def _is_of_this_machine(origin: str) -> bool:
    """Whether an origin is written as an address or as localhost, which no DNS can lead here."""
    host = urlsplit(origin).hostname or ""
    return host == "localhost" or _address(host) is not None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def origins_of(settings: Settings) -> list[str]:
    """The origins that the operator named."""
    named = (part.strip().rstrip("/") for part in settings.cors_origins.split(","))
    return [origin for origin in named if origin]
