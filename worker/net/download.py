"""A URL from a stranger -> a bounded, checked local file.

The RunPod SDK's own `rp_ssrf` pins addresses as this does, but lets http through and has no
deadline for the whole: a server that sends a byte now and then would hold a job for ever.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Thread

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from worker.atomic_write import replacing
from worker.cancellation import Cancellation
from worker.errors import DownloadError
from worker.net.https_url import HttpsUrl, parse_https_url
from worker.net.public_addresses import is_public
from worker.redaction import URL_MAX, redact_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 1 << 16


LOOKUPS = 32  # names that are asked for at once, those included whose download was given up
_lookups = BoundedSemaphore(LOOKUPS)


async def resolve(host: str) -> list[str]:
    """Ask the system for the addresses of a name. Raises OSError.

    What the system asks a server that does not answer cannot be taken back, and may last half a
    minute. So it is asked in a thread for which neither the caller, nor its loop, nor the end of
    the process waits.
    """
    while not _lookups.acquire(blocking=False):
        await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()
    thread = Thread(target=_look_up, args=(host, answer, loop), name="lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads
        _lookups.release()
        raise OSError(str(error)) from None
    return await answer


def _look_up(host: str, answer: asyncio.Future[list[str]], loop: asyncio.AbstractEventLoop) -> None:
    """Find the addresses of a name, and hand them to the loop, where that still waits for them."""
    found: list[str] = []
    fault: OSError | None = None
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    except OSError as error:
        fault = error
    except UnicodeError as error:  # a label that is empty or too long
        fault = OSError(str(error))
    finally:
        _lookups.release()

    def hand_over() -> None:
        if answer.done():  # given up
            return
        if fault is None:
            answer.set_result(found)
        else:
            answer.set_exception(fault)

    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(hand_over)


@dataclass(frozen=True)
class Limits:
    """Bounds of a download: bytes, seconds, redirects, addresses.

    `seconds` is for everything together: names, connections, redirects and the body.
    `allow_address` decides on each IP address in canonical form; `ssl` replaces the system's
    certificate authorities.
    """

    max_bytes: int = 25_000_000
    seconds: float = 30.0
    redirects: int = 3
    allow_address: Callable[[str], bool] = is_public
    resolve: Callable[[str], Awaitable[list[str]]] = resolve
    ssl: tls.SSLContext | None = None


async def fetch(
    url: str, into: Path, limits: Limits | None = None, *, field: str | None = None
) -> Path:
    """Fetch an https URL into the file `into`, which appears whole or not at all.

    It is asked for as it is written, and so are those that it redirects to (`https_url`). Scheme
    and address are checked at every hop, and the connection goes to the very address that was
    checked. Proxies of the environment are not used: they would choose another.

    Raises DownloadError, with `field`, for whatever keeps the file from being had.
    """
    limits = limits or Limits()
    target = _checked(url, limits, field)
    try:
        async with asyncio.timeout(limits.seconds):
            with replacing(into) as part:
                await _follow(target, part, limits, field)
    except TimeoutError:
        raise DownloadError(
            f"{redact_url(str(target))} took longer than {limits.seconds:g} s", field=field
        ) from None
    except aiohttp.ClientSSLError:
        raise DownloadError(
            f"{redact_url(str(target))}: the server's certificate is not trusted", field=field
        ) from None
    except aiohttp.ClientConnectorError:
        raise DownloadError(
            f"{redact_url(str(target))}: the server cannot be reached", field=field
        ) from None
    except aiohttp.ClientError as error:
        raise DownloadError(
            f"{redact_url(str(target))}: the server's answer broke off or cannot be understood "
            f"({type(error).__name__})",
            field=field,
        ) from None
    except OSError as error:
        raise DownloadError(
            f"{redact_url(str(target))} could not be stored: {error.strerror}", field=field
        ) from None
    return into


def fetch_blocking(
    url: str,
    into: Path,
    limits: Limits | None = None,
    *,
    field: str | None = None,
    cancellation: Cancellation | None = None,
) -> Path:
    """Fetch as `fetch` does, from where no event loop runs; ends when the job is cancelled.

    Raises JobCancelledError then.
    """

    async def run() -> Path:
        fetching = asyncio.ensure_future(fetch(url, into, limits, field=field))
        if cancellation is None:
            return await fetching
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(fetching.cancel)

        cancellation.call(cancel)
        try:
            return await fetching
        except asyncio.CancelledError:
            cancellation.check()
            raise

    return asyncio.run(run())


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp only addresses that may be connected to; it connects to nothing else."""

    def __init__(self, limits: Limits, field: str | None) -> None:
        self._limits = limits
        self._field = field

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's interface
    ) -> list[ResolveResult]:
        """Give all addresses of `host`; refuse it when one of them is not allowed."""
        try:
            addresses = await self._limits.resolve(host)
        except OSError:
            addresses = []
        if not addresses:
            raise DownloadError(
                f"the host {host} cannot be found; check the URL", field=self._field
            )
        if not all(self._limits.allow_address(address) for address in addresses):
            raise _not_public(host, self._field)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Release nothing, for nothing is held."""


async def _follow(target: HttpsUrl, part: Path, limits: Limits, field: str | None) -> None:
    """Go from redirect to redirect until a body comes, and write it to `part`."""
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(limits, field),
        use_dns_cache=False,
        force_close=True,
        ssl=limits.ssl or True,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Unpacked by nobody: what is counted is what is written.
        headers={"Accept-Encoding": "identity", "Accept": "audio/*, */*;q=0.5"},
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trust_env=False,
    ) as session:
        for _ in range(limits.redirects + 1):
            async with session.get(target.request_url(), allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    await _store(answer, redact_url(str(target)), part, limits, field)
                    return
                location = answer.headers.get("Location", "")
            target = _next_hop(target, location, limits, field)
    raise DownloadError(
        f"the URL redirects more than {limits.redirects} times; use the address of the file itself",
        field=field,
    )


def _next_hop(target: HttpsUrl, location: str, limits: Limits, field: str | None) -> HttpsUrl:
    shown = redact_url(str(target))
    if not location:
        raise DownloadError(f"{shown} redirects to no URL", field=field)
    try:
        hop = parse_https_url(target.resolve(location))
    except ValueError as reason:
        raise DownloadError(
            f"{shown} redirects to no URL that can be fetched: {reason}", field=field
        ) from None
    return _allowed(hop, limits, field)


async def _store(
    answer: aiohttp.ClientResponse, shown: str, part: Path, limits: Limits, field: str | None
) -> None:
    """Write the body to `part`; refuse errors, packed bodies and more than max_bytes."""
    if answer.status != 200:
        raise DownloadError(f"{shown}: the server answered {answer.status}", field=field)
    if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise DownloadError(
            f"{shown}: the server sent the file compressed; store it without Content-Encoding",
            field=field,
        )
    too_large = DownloadError(
        f"{shown}: the file has more than {limits.max_bytes} bytes", field=field
    )
    if (answer.content_length or 0) > limits.max_bytes:
        raise too_large
    total = 0
    with part.open("wb") as file:
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            total += len(chunk)
            if total > limits.max_bytes:
                raise too_large
            file.write(chunk)
    if total == 0:
        raise DownloadError(f"{shown}: the file is empty", field=field)


def _checked(url: str, limits: Limits, field: str | None) -> HttpsUrl:
    """Take a URL apart and refuse what may not be asked for."""
    try:
        parsed = parse_https_url(url)
    except ValueError as reason:
        raise DownloadError(str(reason), field=field) from None
    return _allowed(parsed, limits, field)


def _allowed(url: HttpsUrl, limits: Limits, field: str | None) -> HttpsUrl:
    """Refuse an address that may not be asked; aiohttp takes those past the resolver."""
    if url.address is not None and not limits.allow_address(url.address):
        raise _not_public(url.address, field)
    return url


def _not_public(host: str, field: str | None) -> DownloadError:
    return DownloadError(f"the host {host[:URL_MAX]} is not on the public internet", field=field)
