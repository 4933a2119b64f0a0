"""The model lock -> checkpoint folders on the volume."""

from __future__ import annotations

import shutil
from pathlib import Path

from volume.layout import Layout
from volume.locks import EMBEDDED, ModelLock
from volume.manifest import FileEntry, sha256_of
from volume.publish import publish_file_if_absent, publish_folder, staging


class CorruptFileError(Exception):
    """A file is not the one that its lock names."""


def install_model(layout: Layout, lock: ModelLock) -> Path:
    """Put an embedded model on the volume, if it is not there, and return its folder."""
    final = layout.models / lock.resource
    if not final.is_dir():
        with staging(layout.cache, lock.resource) as staged:
            source = EMBEDDED / lock.name / "checkpoint"
            for file in lock.files:
                target = staged / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / file.path, target)
                check(target, file)
            publish_folder(staged, final)
    for voice in lock.voices:
        publish_file_if_absent(
            EMBEDDED / lock.name / "voices" / voice.path,
            layout.local_storage / "voices" / voice.path,
        )
    return final


def check(path: Path, expected: FileEntry) -> None:
    """Raise CorruptFileError unless the file has the size and sha256 that are expected of it."""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise CorruptFileError(f"{expected.path}: {size} bytes, not {expected.size}")
    if expected.sha256 is not None and (found := sha256_of(path)) != expected.sha256:
        raise CorruptFileError(f"{expected.path}: sha256 {found}, not {expected.sha256}")
