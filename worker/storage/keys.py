"""Names that a job may give, and the keys at which the storage holds what they name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.errors import RequestError, SetupError
from worker.settings import Settings

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
KEY_BYTES_MAX = 1024  # S3's limit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class StoredReference:
    """Reference audio that lies in the storage, at `key`."""

    key: str


@dataclass(frozen=True)
class RemoteReference:
    """Reference audio that lies anywhere else, to be had from `url` (https)."""

    url: str


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

    def resolve_reference(
        self, reference: str, *, field: str = "prompt_speech_url"
    ) -> StoredReference | RemoteReference:
        """Say where a job's reference audio is.

        It is s3://BUCKET/KEY in the worker's own bucket, an https:// URL (which `download`
        checks further) or a name below the voices prefix. Raises RequestError for all else.
        """
        scheme = _SCHEME.match(reference)
        if scheme is None:
            return StoredReference(checked_key(f"{self.voices}{reference}", field=field))
        if scheme[1].lower() == "https":
            return RemoteReference(reference)
        bucket, slash, key = reference[scheme.end() :].removeprefix("//").partition("/")
        if scheme[1].lower() != "s3" or not slash:
            raise RequestError(
                f"{field}: {scheme[1]}: is not a place for reference audio; use "
                "s3://BUCKET/KEY, https://... or the name of a file below the voices prefix",
                field=field,
            )
        if self.bucket is None:
            raise RequestError(
                f"{field}: this worker has no bucket, so no s3:// URL can be read; "
                "use https:// or a name",
                field=field,
            )
        if bucket != self.bucket:
            raise RequestError(
                f"{field}: bucket {bucket!r} is not this worker's; "
                "copy the file there or use an https:// URL",
                field=field,
            )
        return StoredReference(checked_key(key, field=field))


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
