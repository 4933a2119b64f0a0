"""Manifests: the path, size and sha256 of each file of a folder, and one digest of them all.

An installed folder carries its manifest twice, so that one flipped bit in either can be mended.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from volume.atomic_write import replacing
from volume.layout import IN_PLACE

CHUNK = 1 << 20
MANIFEST = "manifest.json"
TWIN = "manifest.twin.json"
BYTES_MAX = 64 << 20  # of a manifest: a quarter of a million files


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file: `path` below its folder with forward slashes, bytes, and sha256.

    Pins may not know the size or the sha256 of a file; a manifest always does.
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


def files_below(folder: Path) -> list[str]:
    """Return the paths below `folder` of its files, sorted, without its own manifests.

    What was prepared from a model lies in its folder, with manifests of its own, and is not part of
    it; nor are the marks of what it uses in place. Any other folder is, whatever files it has:
    wheels have some that are called manifest.json.
    """
    found = []
    for where, folders, names in os.walk(folder):
        if Path(where) == folder:
            folders[:] = [f for f in folders if f != IN_PLACE and not f.startswith("prepared-")]
        found += [(Path(where) / name).relative_to(folder).as_posix() for name in names]
    return sorted(path for path in found if path not in {MANIFEST, TWIN})


def scan(
    folder: Path,
    paths: Iterable[str] | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> tuple[FileEntry, ...]:
    """Hash the files of `folder` (those named, or all), several at once: disks like that."""

    def entry(path: str) -> FileEntry:
        file = folder / path
        return FileEntry(path, file.stat().st_size, sha256_of(file, on_bytes))

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(entry, files_below(folder) if paths is None else paths))


def digest_of(files: Iterable[FileEntry]) -> str:
    """Return one sha256 for a set of files, whatever their order."""
    return hashlib.sha256(json.dumps([asdict(f) for f in sorted(files)]).encode()).hexdigest()


def write_manifest(folder: Path, files: tuple[FileEntry, ...]) -> None:
    """Write the folder's manifest and its twin, each whole or not at all."""
    text = json.dumps({"digest": digest_of(files), "files": [asdict(f) for f in files]}, indent=0)
    for name in (MANIFEST, TWIN):
        with replacing(folder / name) as staged:
            staged.write_text(text)


def read_manifest(folder: Path, name: str = MANIFEST) -> tuple[FileEntry, ...] | None:
    """Return the files that the manifest names, or None where it is missing or damaged."""
    try:
        if (folder / name).stat().st_size > BYTES_MAX:
            return None
        content = json.loads((folder / name).read_text())
        files = tuple(FileEntry(**file) for file in content["files"])
        return files if digest_of(files) == content["digest"] else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def intact_manifest(folder: Path) -> tuple[FileEntry, ...] | None:
    """Return the files that the manifest or else its twin names; None when both are damaged."""
    return read_manifest(folder, MANIFEST) or read_manifest(folder, TWIN)


def damaged_files(
    folder: Path, expected: Iterable[FileEntry], on_bytes: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Return the paths of the files that are missing or not what is expected, in order."""

    def is_damaged(file: FileEntry) -> bool:
        path = folder / file.path
        try:
            if path.stat().st_size != file.size and file.size is not None:
                return True
            return file.sha256 is not None and sha256_of(path, on_bytes) != file.sha256
        except OSError:
            return True

    files = sorted(expected)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [f.path for f, bad in zip(files, pool.map(is_damaged, files), strict=True) if bad]
