"""An https URL of a stranger: taken apart once, checked, and asked for as it was written.

A signature covers the very bytes of path and query, so none of them may change on the way: not
`%2F` to `/`, not `%7E` to `~`, not `/a/../b` to `/b`, not `?` to nothing. And what is checked must
be what is asked: so host, port and target are cut here, by RFC 3986's rules alone, and the request
is put together from these parts; no second parser sees the text.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from yarl import URL

from worker.net.public_addresses import literal_address

PORT = 443
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"//([^/?#]*)")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]*))?")
_NEVER = re.compile(r"[\\\x00-\x1f\x7f]")  # parsers differ over these
_NOT_ASKED = re.compile(r"[^\x21-\x7e]+")


@dataclass(frozen=True)
class HttpsUrl:
    """Host, port, and what the server is asked for.

    `host` is a name in lower-case ASCII (IDNA) or an IP address without brackets, `address` that
    address in canonical form, or None for a name. `target` is path and query as they were
    written, without the fragment; it begins with "/" and is printable ASCII without spaces.
    """

    host: str
    address: str | None
    port: int
    target: str

    def __str__(self) -> str:
        return f"{self._origin}{self.target}"

    def request_url(self) -> URL:
        """For aiohttp, which sends a URL's path as it stands: the target is given as the path."""
        port = None if self.port == PORT else self.port
        return URL.build(
            scheme="https", host=self._bracketed, port=port, path=self.target, encoded=True
        )

    def resolve(self, reference: str) -> str:
        """The URL that a Location means from here (RFC 3986, section 5.2); not yet checked.

        Dot segments are taken away only where a relative path is joined to this one's.
        """
        if _SCHEME.match(reference):
            return reference
        if reference.startswith("//"):
            return f"https:{reference}"
        if reference.startswith("/"):
            return f"{self._origin}{reference}"
        if not reference or reference.startswith("#"):
            return str(self)
        path = self.target.partition("?")[0]
        if reference.startswith("?"):
            return f"{self._origin}{path}{reference}"
        relative, mark, rest = _cut(reference)
        return f"{self._origin}{_joined(path, relative)}{mark}{rest}"

    @property
    def _origin(self) -> str:
        return f"https://{self._bracketed}" + ("" if self.port == PORT else f":{self.port}")

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_https_url(text: str) -> HttpsUrl:
    """Take a URL apart; what is outside ASCII, and spaces, are percent-encoded as browsers do.

    Raises ValueError with a sentence for the caller, that never repeats path or query.
    """
    if _NEVER.search(text):
        raise ValueError("the URL has characters that a URL cannot hold; percent-encode them")
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() != "https":
        kind = scheme[1][:20].lower() if scheme else "relative ones"
        raise ValueError(f"only https:// URLs are fetched, not {kind}")
    authority = _AUTHORITY.match(text, scheme.end())
    host, address, port = _host_and_port(authority[1] if authority else "")
    rest = text[authority.end() :] if authority else ""
    try:
        target = _NOT_ASKED.sub(_percent_encoded, rest.partition("#")[0])
    except UnicodeEncodeError:
        raise ValueError("the URL has characters that are none; percent-encode them") from None
    return HttpsUrl(host, address, port, target if target.startswith("/") else f"/{target}")


def _host_and_port(authority: str) -> tuple[str, str | None, int]:
    """Host, its canonical address where it is one, and port."""
    if "@" in authority:
        raise ValueError("the URL holds a user name or password; use a signed URL instead")
    no_host = "the URL has no valid host; check it"
    found = _HOST_AND_PORT.fullmatch(authority)
    if found is None or not found[1] or "%" in found[1]:
        raise ValueError(no_host)
    try:
        host = _ascii_host(found[1])
        address = literal_address(host)
    except ValueError:
        raise ValueError(no_host) from None
    port = int(found[2][:10]) if found[2] else PORT
    if not port:
        raise ValueError("the URL's port is 0")
    if port > 65_535:
        raise ValueError(no_host)
    return host, address, port


def _ascii_host(written: str) -> str:
    """A host as the resolver is asked for it. Raises ValueError for what is none."""
    if written.startswith("["):
        return str(ipaddress.IPv6Address(written[1:-1]))
    host = URL.build(scheme="https", host=written).raw_host
    if not host or ":" in host:
        raise ValueError("not a host name")
    return host


def _percent_encoded(found: re.Match[str]) -> str:
    # aiohttp hands on bytes of a header that are no UTF-8 as surrogates (PEP 383).
    raw = found[0].encode("utf-8", "surrogateescape")
    return "".join(f"%{byte:02X}" for byte in raw)


def _cut(reference: str) -> tuple[str, str, str]:
    """A relative reference's path, the mark behind it, and what follows the mark."""
    mark = re.search(r"[?#]", reference)
    if mark is None:
        return reference, "", ""
    return reference[: mark.start()], mark[0], reference[mark.end() :]


def _joined(base: str, relative: str) -> str:
    """A path joined to the folder of `base`; "." and ".." of the relative path are followed."""
    folder = base.split("/")[1:-1]
    steps = relative.split("/")
    for step in steps:
        if step == "..":
            folder = folder[:-1]
        elif step != ".":
            folder.append(step)
    ends_in_folder = steps[-1] in {".", ".."}
    return "/" + "/".join(folder) + ("/" if ends_in_folder and folder else "")
