"""Names that a job may give, and the keys at which the storage holds what they name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.errors import RequestError, SetupError
from worker.settings import Settings

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
KEY_BYTES_MAX = 1024  # S3's limit

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Keys:
    """The keys of voices and results; prefixes are empty or end in a slash."""

    voices: str
    output: str
    bucket: str | None

    def voice_key(self, name: str, *, field: str = "voice") -> str:
        """Key of the saved voice `name`. Raises RequestError for a name that is none."""
        return f"{self.voices}{_checked_name(name, field)}.json"

    def output_key(self, name: str, job_id: str, extension: str) -> str:
        """Key of a result of a job. Raises RequestError for a name or id that is none."""
        name = _checked_name(name, "output_name")
        return f"{self.output}{name}_{_checked_name(job_id, 'id')}.{extension}"

    @staticmethod
    def check_job_id(job_id: str) -> None:
        """Raise RequestError for an id that can be no part of a key, so of no result."""
        _checked_name(job_id, "id")


def keys_of(settings: Settings) -> Keys:
    """Read the prefixes. Raises SetupError for one that can be no part of a key."""
    return Keys(
        _prefix(settings.s3_voices_prefix, "S3_VOICES_PREFIX"),
        _prefix(settings.s3_output_prefix, "S3_OUTPUT_PREFIX"),
        settings.s3_bucket_name,
    )


def checked_key(key: str, *, field: str | None = None) -> str:
    """Give back `key` when it means the same to every storage and lies inside of it.

    Refused with RequestError: an empty key or segment, a leading slash, `.` and `..`,
    backslashes, control characters, more than KEY_BYTES_MAX bytes.
    """
    problem = None
    if not key:
        problem = "is empty"
    elif _CONTROL.search(key):
        problem = "holds a control character"
    elif "\\" in key:
        problem = "holds a backslash"
    elif any(part in {"", ".", ".."} for part in key.split("/")):
        problem = "has an empty, '.' or '..' part"
    elif len(key.encode()) > KEY_BYTES_MAX:
        problem = f"is longer than {KEY_BYTES_MAX} bytes"
    if problem:
        raise RequestError(f"{field or 'key'}: {key[:100]!r} {problem}", field=field)
    return key


def checked_prefix(prefix: str) -> str:
    """Give back a prefix of keys, empty or ending in a slash. Raises RequestError as for a key."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


def _checked_name(name: str, field: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise RequestError(
            f"{field}: {name[:100]!r} is not a valid name; use 1 to 128 characters of "
            "A-Z a-z 0-9 . _ -, the first no dot",
            field=field,
        )
    return name


def _prefix(value: str, variable: str) -> str:
    stripped = value.strip("/")
    if not stripped:
        return ""
    try:
        return checked_key(stripped, field=variable) + "/"
    except RequestError as error:
        raise SetupError(error.message) from None
