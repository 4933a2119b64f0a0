"""What a folder holds: the path, size and sha256 of each file, and one digest of them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file: `path` below its folder with forward slashes, bytes, and sha256.

    A lock may not know the size or the sha256 of a file; a manifest always does.
    """

    path: str
    size: int | None
    sha256: str | None


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Return the hexadecimal sha256 of a file; `on_bytes` hears of each chunk read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def scan(folder: Path) -> tuple[FileEntry, ...]:
    """Every file below `folder`, hashed, in the order of their paths."""
    return tuple(
        FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def digest_of(files: Iterable[FileEntry]) -> str:
    """One sha256 for a set of files, whatever their order."""
    return hashlib.sha256(json.dumps([asdict(f) for f in sorted(files)]).encode()).hexdigest()
