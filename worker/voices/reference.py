"""prompt_speech_url -> a local file: from the bucket, the local folder or the internet."""

from __future__ import annotations

from pathlib import Path

from worker.cancellation import Cancellation
from worker.errors import NotFoundError, StorageError, VoiceError
from worker.net.download import Limits, fetch_blocking
from worker.redaction import redact
from worker.storage.base import Storage
from worker.storage.keys import Keys, StoredReference


def fetch_reference(
    reference: str,
    storage: Storage,
    keys: Keys,
    folder: Path,
    limits: Limits | None = None,
    cancellation: Cancellation | None = None,
) -> Path:
    """Get the reference audio into `folder`, unchecked but bounded in size.

    Raises RequestError for a place that is none, VoiceError where nothing is, DownloadError
    and StorageError for what went wrong on the way.
    """
    field = "prompt_speech_url"
    limits = limits or Limits()
    into = folder / "reference"
    found = keys.resolve_reference(reference)
    if not isinstance(found, StoredReference):
        return fetch_blocking(found.url, into, limits, field=field, cancellation=cancellation)
    try:
        return storage.get(found.key, into, max_bytes=limits.max_bytes, cancellation=cancellation)
    except NotFoundError:
        raise VoiceError(
            f"{field}: there is no {redact(reference)} in the worker's storage; "
            "upload it there, or give an https:// URL",
            field=field,
        ) from None
    except StorageError as error:
        raise StorageError(f"{field}: {error.message}", field=field) from None
