"""The model lock -> checkpoint folders on the volume."""

from __future__ import annotations

import shutil
from pathlib import Path

from volume.errors import DamagedError
from volume.hub import fetch_files
from volume.installing import Installer
from volume.lease import Lease
from volume.locks import EMBEDDED, ModelLock
from volume.manifest import FileEntry, damaged_files, scan, write_manifest
from volume.publish import publish_file_if_absent
from volume.space import bytes_below, require_space


def install_model(installer: Installer, lock: ModelLock) -> Path:
    """Return the model's folder, installed if need be, and see to its reference clips."""
    layout = installer.layout

    def build(work: Path, lease: Lease) -> Path:
        files = work / "files"
        files.mkdir(exist_ok=True)
        require_space(files, lock.size, lock.name, held=bytes_below(files))
        obtain(installer, lock, lock.files, files, lease)
        folder = work / "model"
        shutil.rmtree(folder, ignore_errors=True)
        for file in lock.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            (files / file.path).rename(target)
        write_manifest(folder, scan(folder))
        return folder

    final = installer.ensure(lock.resource, layout.models / lock.resource, build)
    for voice in lock.voices:
        publish_file_if_absent(
            EMBEDDED / lock.name / "voices" / voice.path,
            layout.local_storage / "voices" / voice.path,
        )
    return final


def obtain(
    installer: Installer,
    lock: ModelLock,
    files: tuple[FileEntry, ...],
    folder: Path,
    lease: Lease,
) -> None:
    """Put `files` of the model into `folder`, each checked; raises DownloadError, DamagedError."""
    if lock.source == "hub":
        fetch_files(installer, lock, files, folder, lease)
        return
    source = EMBEDDED / lock.name / "checkpoint"
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file.path, target)
    if bad := damaged_files(folder, files):
        raise DamagedError(f"the embedded model {lock.name} is damaged: {', '.join(bad)}")
