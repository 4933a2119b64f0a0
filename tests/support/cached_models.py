"""The platform's cached models, as Hugging Face's client lays them out."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from tests.support.faulty_http import sha256
from tests.support.hub_server import LARGE, REVISION, git_blob


def cache_model(
    root: Path,
    repository: str,
    files: dict[str, bytes],
    revision: str = REVISION,
    *,
    plain: Collection[str] = (),
) -> Path:
    """Put a snapshot below `root`, the folder `hub`; returns the repository's folder.

    The files in `plain` lie in the snapshot themselves, as where links cannot be made.
    """
    home = root / f"models--{repository.replace('/', '--')}"
    for path, data in files.items():
        place = home / "snapshots" / revision / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in plain:
            place.write_bytes(data)
            continue
        blob = home / "blobs" / (sha256(data) if len(data) >= LARGE else git_blob(data))
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        place.symlink_to(os.path.relpath(blob, place.parent))
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(revision)
    return home


def blob_of(home: Path, path: str, revision: str = REVISION) -> Path:
    """The blob behind a file of a snapshot."""
    return (home / "snapshots" / revision / path).resolve()
