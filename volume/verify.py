"""Verification: hashes everything installed again, names each bad file, and mends just those."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from volume.environment import install_wheels, recorded
from volume.installer import Installer
from volume.layout import PREPARED
from volume.lease import Lease
from volume.manifest import (
    MANIFEST,
    TWIN,
    FileEntry,
    damaged_files,
    files_below,
    intact_manifest,
    read_manifest,
    sha256_of,
)
from volume.mend import mend
from volume.models import again, convert
from volume.pins import PinnedEnvironment, PinnedModel, PinnedWheel
from volume.start_pack.making import make, resource_of

SITE = "site-packages"


@dataclass(frozen=True)
class Finding:
    """The damaged files of one installed folder, as paths below it; none when all is well."""

    resource: str
    folder: Path
    pinned: tuple[FileEntry, ...]
    damaged: tuple[str, ...]


def verify(resource: str, folder: Path, pinned: tuple[FileEntry, ...] = ()) -> Finding:
    """Hash every file of an installed folder against its manifest and its pins."""
    manifests = tuple(name for name in (MANIFEST, TWIN) if read_manifest(folder, name) is None)
    expected = {file.path: file for file in intact_manifest(folder) or ()}
    for file in pinned:
        if file.sha256 is not None or file.path not in expected:
            expected[file.path] = file
    damaged = set(damaged_files(folder, expected.values()))
    if len(manifests) == 2:
        # Nothing vouches any more for a file whose sha256 is not pinned.
        known = {file.path for file in pinned if file.sha256 is not None}
        damaged |= {path for path in {*files_below(folder), *expected} if path not in known}
    return Finding(resource, folder, pinned, (*sorted(damaged), *manifests))


def repair_environment(
    installer: Installer, environment: PinnedEnvironment, finding: Finding
) -> None:
    """Install the wheels of the damaged files aside, and put those files into their places."""
    owners = damaged_wheels(environment, finding)

    def remake(work: Path, lease: Lease) -> Path:
        site = work / "repair" / SITE
        shutil.rmtree(site.parent, ignore_errors=True)
        install_wheels(installer, owners, site, work / "uv", lease)
        return site.parent

    mend(installer, f"environment-{environment.digest}", finding.folder, finding.damaged, remake)


def damaged_wheels(environment: PinnedEnvironment, finding: Finding) -> tuple[PinnedWheel, ...]:
    """Return the wheels that the damaged files may have come from.

    An intact RECORD says which files are its wheel's. A damaged one speaks for nothing, so what no
    intact RECORD names is its.
    """
    site = finding.folder / SITE
    paths = set(finding.damaged) - {MANIFEST, TWIN}
    damaged = {path.removeprefix(f"{SITE}/") for path in paths}
    chosen, unclaimed = [], {source_of(path) for path in damaged}
    silent = []
    for wheel in environment.wheels:
        folder = info_folder(site, wheel)
        if folder is None or f"{folder.name}/RECORD" in damaged:
            silent.append(wheel)
            continue
        paths = set(recorded(folder / "RECORD"))
        if paths & unclaimed:
            chosen.append(wheel)
            unclaimed -= paths
    return (*chosen, *silent) if unclaimed or silent else tuple(chosen)


def info_folder(site: Path, wheel: PinnedWheel) -> Path | None:
    """Return the .dist-info folder of an installed wheel, or None when there is none."""
    name = wheel.file.split("-")[0].lower()
    found = [p for p in site.glob("*.dist-info") if p.name.split("-")[0].lower() == name]
    return found[0] if found else None


def source_of(path: str) -> str:
    """Return the module that a compiled file was made of; any other path as it is."""
    folder, separator, name = path.rpartition("__pycache__/")
    return f"{folder}{name.split('.')[0]}.py" if separator else path


def repair_model(installer: Installer, model: PinnedModel, finding: Finding) -> None:
    """Fetch the damaged files aside, and put them into their places."""
    files = tuple(file for file in model.files if file.path in finding.damaged)
    remake = partial(again, installer, model, files)

    mend(installer, model.resource, finding.folder, finding.damaged, remake)


def repair_prepared(installer: Installer, model: PinnedModel, finding: Finding) -> None:
    """Prepare the model again aside, and put the damaged files into their places."""

    def remake(work: Path, lease: Lease) -> Path:
        folder = work / "repair"
        shutil.rmtree(folder, ignore_errors=True)
        convert(installer, model, folder, lease)
        return folder

    resource = f"{model.resource}-{PREPARED}"
    mend(installer, resource, finding.folder, finding.damaged, remake)


def repair_pack(installer: Installer, environment: PinnedEnvironment, finding: Finding) -> None:
    """Make the start pack again aside, and put it into its place."""

    def remake(work: Path, lease: Lease) -> Path:
        folder = work / "repair"
        shutil.rmtree(folder, ignore_errors=True)
        make(installer, environment, folder, lease)
        return folder

    mend(installer, resource_of(finding.folder), finding.folder, finding.damaged, remake)


def damaged_cubins(folder: Path) -> list[Path]:
    """Return the workers' compiled kernels that are not what their names say, by sha256.

    Workers write them, and compile anew what is missing, so to remove one is to mend it.
    """
    found = []
    for path in sorted(folder.glob("*.cubin")):
        with suppress(FileNotFoundError):  # a worker has removed an old one meanwhile
            if sha256_of(path) != path.stem.rpartition("-")[2]:
                found.append(path)
    return found
