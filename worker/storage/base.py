"""The interface of a storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.cancellation import Cancellation
from worker.errors import StorageError

READ_BYTES_MAX = 1 << 20  # what read_bytes reads at most: saved voices are a few kB


@dataclass(frozen=True)
class StoredFile:
    """One file of a storage, as a listing has it."""

    key: str
    size: int  # bytes
    modified: float  # when it was stored, in seconds since 1970
    version: str  # another one after each change of the content


class Storage(Protocol):
    """Bytes under keys. Every method raises StorageError; a missing key NotFoundError.

    Each ends within a time of its own. With a `cancellation` it also ends, with JobCancelledError,
    as soon as nobody waits for the job any more; what it was about may then be done or not.
    """

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        """Store the file at `path`; its content appears under `key` whole or not at all."""

    def get(
        self,
        key: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Path:
        """Write what is under `key` to the file `into`, whole or not at all; give `into`.

        More than `max_bytes` are refused.
        """

    def exists(self, key: str, *, cancellation: Cancellation | None = None) -> bool:
        """Tell whether something is under `key`."""

    def url(self, key: str, expiry_seconds: int) -> str:
        """Give a URL from which anyone may read what is under `key`, for so many seconds."""

    def write_bytes(
        self,
        key: str,
        content: bytes,
        content_type: str,
        *,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Store a small thing."""

    def read_bytes(self, key: str, *, cancellation: Cancellation | None = None) -> bytes:
        """Give a small thing, of at most READ_BYTES_MAX."""

    def children(
        self, prefix: str, *, cancellation: Cancellation | None = None
    ) -> tuple[StoredFile, ...]:
        """List the files right below `prefix`, by key; the prefix is empty or ends in a slash."""

    def delete(self, key: str, *, cancellation: Cancellation | None = None) -> None:
        """Remove what is under `key`; that nothing is there is no error."""

    def check(self) -> None:
        """Raise StorageError, saying what to do, when the storage cannot be used."""


def small(content: bytes, key: str) -> bytes:
    """Give back what is small enough for read_bytes; raise StorageError for the rest."""
    if len(content) > READ_BYTES_MAX:
        raise not_small(key)
    return content


def not_small(key: str) -> StorageError:
    """Make the error for more than read_bytes reads."""
    return StorageError(f"{key} is larger than {READ_BYTES_MAX} bytes")


def too_large(key: str, size: int, max_bytes: int) -> StorageError:
    """Make the error for more than was asked for."""
    return StorageError(f"{key} has {size} bytes; at most {max_bytes} are allowed")
