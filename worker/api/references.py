"""How a job says where its reference audio is: the one rule, and the three kinds of places.

alice.wav, team/alice.wav    a file below voices/ in the worker's storage
s3://BUCKET/KEY              a file in the worker's own bucket
https://...                  a file on the internet
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_URL = 8_192  # characters of a reference; a session token alone may make 4,000 of a signed URL
FOLDER = "voices/"
PLACES = f"s3://BUCKET/KEY, an https:// URL or the name of a file below {FOLDER}"
RULE = f"{PLACES} (letters, digits and . _ - /), at most {MAX_URL} characters"


@dataclass(frozen=True)
class NamedReference:
    """A file below the voices prefix of the worker's storage; `name` may have folders."""

    name: str

    def __str__(self) -> str:
        return f"{FOLDER}{self.name}" if self.name.startswith(FOLDER) else self.name


@dataclass(frozen=True)
class BucketReference:
    """A file in a bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class UrlReference:
    """A file on the internet."""

    url: str  # https, and no user name in it

    def __str__(self) -> str:
        return self.url


Reference = NamedReference | BucketReference | UrlReference


def parse_reference(text: str) -> Reference:
    """Read where reference audio is; str() writes it so that it is read as the same again.

    Raises ValueError with a reason that reads on after the text: `'x' has no ...`.
    """
    if len(text) > MAX_URL:
        raise ValueError(f"is {len(text)} characters long")
    if not text.isprintable() or re.search(r"[\s\\]", text):
        raise ValueError("holds a space, a backslash or a control character")
    scheme, colon, rest = text.partition(":")
    if not colon:
        return _named(text)
    scheme = scheme.lower()
    if scheme not in ("s3", "https") or not rest.startswith("//"):
        raise ValueError("is neither an s3:// nor an https:// URL")
    return _in_bucket(rest[2:]) if scheme == "s3" else _on_the_internet(f"https:{rest}")


def _named(path: str) -> NamedReference:
    path = path.removeprefix(FOLDER)
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", path) or ".." in path:
        raise ValueError(f"is neither a URL nor a name below {FOLDER}")
    return NamedReference(path)


def _in_bucket(place: str) -> BucketReference:
    bucket, _, key = place.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket):
        raise ValueError("has no bucket's name after s3://")
    if {"", ".", ".."} & set(key.split("/")):
        raise ValueError("has no file's key after the bucket's name")
    return BucketReference(bucket, key)


def _on_the_internet(url: str) -> UrlReference:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port, or an IPv6 address, that is none
        usable = False
    if not usable:
        raise ValueError("has no usable host or port")
    if parts.username is not None:
        raise ValueError("holds a user name; use a pre-signed URL")
    return UrlReference(url)
