"""Fetches reference audio: from the bucket, the local folder or the internet."""

from __future__ import annotations

from pathlib import Path

from worker.api.references import (
    PLACES,
    NamedReference,
    UrlReference,
    parse_reference,
)
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, RequestError, StorageError, VoiceError
from worker.net.download import Limits, fetch_blocking
from worker.redaction import redact
from worker.storage.base import Storage
from worker.storage.keys import Keys, checked_key

FIELD = "prompt_speech_url"  # that every reference comes from


def fetch_reference(
    reference: str,
    storage: Storage,
    keys: Keys,
    folder: Path,
    limits: Limits | None = None,
    cancellation: Cancellation | None = None,
) -> Path:
    """Get the reference audio into `folder`, unchecked but bounded in size.

    Raises RequestError for what is no reference, VoiceError where there is no such file,
    DownloadError and StorageError for what went wrong on the way.
    """
    limits = limits or Limits()
    into = folder / "reference"
    place = place_of(reference, keys)
    if isinstance(place, UrlReference):
        return fetch_blocking(place.url, into, limits, field=FIELD, cancellation=cancellation)
    try:
        return storage.get(place, into, max_bytes=limits.max_bytes, cancellation=cancellation)
    except NotFoundError:
        raise VoiceError(
            f"{FIELD}: there is no {redact(reference)} in the worker's storage; "
            "upload it there, or give an https:// URL",
            field=FIELD,
        ) from None
    except StorageError as error:
        raise StorageError(f"{FIELD}: {error.message}", field=FIELD) from None


def place_of(reference: str, keys: Keys) -> str | UrlReference:
    """The key of the reference in the worker's storage, or its URL elsewhere.

    Raises RequestError for what is no reference, and for a bucket that is not the worker's.
    """
    try:
        place = parse_reference(reference)
    except ValueError as reason:
        raise RequestError(
            f"{FIELD}: {redact(reference)} {reason}; it must be {PLACES}", field=FIELD
        ) from None
    if isinstance(place, UrlReference):
        return place
    if isinstance(place, NamedReference):
        return checked_key(f"{keys.voices}{place.name}", field=FIELD)
    _check_bucket(place.bucket, keys.bucket)
    return checked_key(place.key, field=FIELD)


def _check_bucket(bucket: str, own: str | None) -> None:
    if own is None:
        raise RequestError(
            f"{FIELD}: this worker has no bucket, so no s3:// URL can be read; "
            "use an https:// URL, or the name of a file",
            field=FIELD,
        )
    if bucket != own:
        raise RequestError(
            f"{FIELD}: the bucket {bucket!r} is not this worker's; "
            "copy the file there or use an https:// URL",
            field=FIELD,
        )
