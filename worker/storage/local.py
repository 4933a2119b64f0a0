"""A local folder in place of a bucket."""

# ruff: noqa: ARG002 - a folder makes no use of some of what Storage's methods are given

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.atomic_write import replacing
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, StorageError
from worker.storage.base import READ_BYTES_MAX, StoredFile, small, too_large
from worker.storage.keys import checked_key, checked_prefix

_CHECK_BYTES = 1 << 16  # that the start writes: a full disk takes a name, and no content


class LocalStorage:
    """A folder that stands in for the bucket; its URLs are file:// and do not expire."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        """Copy the file into the folder."""
        with self._storing(key) as part:
            shutil.copyfile(path, part)

    def get(
        self,
        key: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Path:
        """Copy the stored file to `into`."""
        with _local_errors(key, "read"):
            source = self._existing(key)
            size = source.stat().st_size
            if max_bytes is not None and size > max_bytes:
                raise too_large(key, size, max_bytes)
            with replacing(into) as part:
                shutil.copyfile(source, part)
        return into

    def exists(self, key: str, *, cancellation: Cancellation | None = None) -> bool:
        """Look the file up."""
        with _local_errors(key, "looked up"):
            return self._path(key).is_file()

    def url(self, key: str, expiry_seconds: int) -> str:
        """Give the file's own URL, which does not expire."""
        return self._path(key).as_uri()

    def write_bytes(
        self,
        key: str,
        content: bytes,
        content_type: str,
        *,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Write a file of these bytes."""
        with self._storing(key) as part:
            part.write_bytes(content)

    def read_bytes(self, key: str, *, cancellation: Cancellation | None = None) -> bytes:
        """Read a small file."""
        with _local_errors(key, "read"), self._existing(key).open("rb") as file:
            return small(file.read(READ_BYTES_MAX + 1), key)

    def children(
        self, prefix: str, *, cancellation: Cancellation | None = None
    ) -> tuple[StoredFile, ...]:
        """List the folder; what is no plain file, or is gone meanwhile, is left out."""
        with _local_errors(prefix or "the folder", "listed"):
            try:
                entries = sorted((self._folder / checked_prefix(prefix)).iterdir())
            except FileNotFoundError:
                return ()
        found = (_stored_file(path, f"{prefix}{path.name}") for path in entries)
        return tuple(file for file in found if file is not None)

    def delete(self, key: str, *, cancellation: Cancellation | None = None) -> None:
        """Remove the file."""
        with _local_errors(key, "removed"):
            self._path(key).unlink(missing_ok=True)

    def check(self) -> None:
        """Write a file and remove it, to see that the folder can be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / ".check") as part:
                part.write_bytes(bytes(_CHECK_BYTES))
            (self._folder / ".check").unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"the folder of LOCAL_STORAGE_DIR, by default SparkTTS-serverless/local on the "
                f"volume, cannot be written: {error.strerror}; for a bucket set S3_BUCKET_NAME"
            ) from None

    def _path(self, key: str) -> Path:
        return self._folder / checked_key(key)

    def _existing(self, key: str) -> Path:
        """Path of `key`; raise NotFoundError where no file is."""
        path = self._path(key)
        if not path.is_file():
            raise NotFoundError(f"{key} could not be read: there is nothing of that name")
        return path

    @contextmanager
    def _storing(self, key: str) -> Iterator[Path]:
        """Give a file that appears under `key`, its content flushed before its name is there."""
        with _local_errors(key, "stored"), replacing(self._home(key)) as part:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())

    def _home(self, key: str) -> Path:
        """Path of `key`, its folder made."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _stored_file(path: Path, key: str) -> StoredFile | None:
    """The file as a listing has it; None for what is no file, or not any more."""
    try:
        found = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    version = f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
    return StoredFile(key, found.st_size, found.st_mtime, version)


@contextmanager
def _local_errors(key: str, done: str) -> Iterator[None]:
    """Answer every error of the file system with a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{key} could not be {done}: {error.strerror}") from None
