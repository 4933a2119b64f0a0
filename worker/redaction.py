"""A value that a stranger sent, as a message may show it."""

from __future__ import annotations

import re
import reprlib

LENGTH = 80  # characters
MAX_URL = 2_048  # of a text, what is looked at


def redact(value: object) -> str:
    """Give a JSON value in at most 80 printable characters, a URL without user and query."""
    text = _Quoting().repr(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 3]}..."


class _Quoting(reprlib.Repr):
    """repr() in JSON's words, bounded in depth and time whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3

    def repr_str(self, value: str, level: int) -> str:  # noqa: ARG002  the base class's signature
        return repr(_without_secrets(value[:MAX_URL]))

    def repr_int(self, value: int, level: int) -> str:  # noqa: ARG002
        # Python refuses to write integers of more than 4300 digits.
        return str(value) if value.bit_length() <= 256 else "an integer of more than 77 digits"

    def repr_bool(self, value: bool, level: int) -> str:  # noqa: ARG002
        return "true" if value else "false"

    def repr_NoneType(self, value: None, level: int) -> str:  # noqa: ARG002, N802
        return "null"


def _without_secrets(text: str) -> str:
    # A pre-signed URL's query is a key to the file, and a password may stand before a host.
    if "://" not in text:
        return text
    place, mark, _ = text.partition("?")
    return re.sub(r"(?<=://)[^/]*@", "...@", place) + (mark and "?...")


_END_OF_URL = re.compile(r"[\s\"'<>]")


def redact_after_scheme(after_scheme: str) -> str:
    """What follows `://`, without user and query.

    The query of a pre-signed URL is a key to the file, and a password may stand before a host.
    """
    end = _END_OF_URL.search(after_scheme)
    size = end.start() if end else len(after_scheme)
    place, mark, _ = after_scheme[:size].partition("?")
    host, slash, path = place.partition("/")
    _, at, host = host.rpartition("@")
    shown = f"{'...@' if at else ''}{host}{slash}{path}{'?...' if mark else ''}"
    return shown + after_scheme[size:]
