"""How values and URLs from strangers are shown in messages and in the log.

A URL's query may be a key to the file, as a pre-signed one's is, and a password may stand before
its host. Neither is shown; where it is unclear which is which, less is shown rather than more.
"""

from __future__ import annotations

import re
import reprlib
from urllib.parse import urlsplit

VALUE_MAX = 80  # characters of a value in a message
URL_MAX = 200  # and of a URL
_STRING_MAX = 2_048  # characters of a string that are looked at
_HIDDEN = "..."

_WORD = re.compile(r"[^\s\"'<>]+")  # where a URL ends within a text
_END_OF_HOST = re.compile(r"[/?#]")
_QUERY = re.compile(r"[?#]")
_SUSPECT = re.compile(r"[?#@]")


def redact(value: object) -> str:
    """A JSON value in at most VALUE_MAX printable characters, its URLs without user and query."""
    text = _JsonRepr().repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 3]}..."


def redact_url(url: str) -> str:
    """A URL in at most URL_MAX characters, without user, query and fragment."""
    return _without_user_and_query(url)[:URL_MAX]


def redact_urls(text: str) -> str:
    """A text in which each URL, with its scheme or without, has lost user, query and fragment."""
    if _SUSPECT.search(text) is None:
        return text
    return _WORD.sub(lambda word: _without_user_and_query(word[0]), text)


def origin(url: str) -> str:
    """Scheme, host and port of a web address; empty where it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host or not re.fullmatch(r"[\w.:-]+", host):
        return ""
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _without_user_and_query(url: str) -> str:
    """A URL, or a word that may be one without its scheme, without what may be secret.

    A password may hold any character. So everything up to the last "@" may belong to it, once
    there is a ":" before the path; if that "@" stands behind a "?", it may as well belong to the
    query, and neither side is shown.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    shown = _without_query(scheme, certain=False)
    if shown != scheme:  # the "://" stands within the query
        return shown
    host = _END_OF_HOST.split(rest, maxsplit=1)[0]
    before, at, after = rest.rpartition("@")
    if at and (":" in host.partition("@")[0] or "://" in rest or (mark and "@" in host)):
        if _QUERY.search(before):
            return f"{scheme}{mark}{_HIDDEN}"
        mark, rest = f"{mark}{_HIDDEN}@", after
    return f"{scheme}{mark}{_without_query(rest, certain=bool(mark))}"


def _without_query(text: str, *, certain: bool) -> str:
    """A text up to its query or fragment; where it is not certain to have one, this needs a "="."""
    mark = _QUERY.search(text)
    if mark is None or not (certain or "=" in text[mark.end() :]):
        return text
    return f"{text[: mark.start()]}{mark[0]}{_HIDDEN}"


class _JsonRepr(reprlib.Repr):
    """repr() in JSON's words, bounded in depth and time whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3

    def repr_str(self, value: str, level: int) -> str:  # noqa: ARG002  the base class's signature
        # White space and quotation marks in a password would end a URL within a text.
        if "://" in value:
            return repr(_without_user_and_query(value)[:_STRING_MAX])
        return repr(redact_urls(value[:_STRING_MAX]))

    def repr_int(self, value: int, level: int) -> str:  # noqa: ARG002
        # Python refuses to write integers of more than 4300 digits.
        return str(value) if value.bit_length() <= 256 else "an integer of more than 77 digits"

    def repr_bool(self, value: bool, level: int) -> str:  # noqa: ARG002
        return "true" if value else "false"

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: ARG002, N802
        return "null"
