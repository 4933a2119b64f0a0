"""Verification: hashes everything installed again, names each bad file, and mends just those."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from volume.environment import install_wheels, recorded
from volume.errors import DamagedError, explain
from volume.installer import Installer, take_over
from volume.layout import PREPARED
from volume.lease import Lease, acquire
from volume.manifest import (
    MANIFEST,
    TWIN,
    FileEntry,
    damaged_files,
    files_below,
    intact_manifest,
    read_manifest,
    scan,
    sha256_of,
    write_manifest,
)
from volume.models import convert, obtain
from volume.pins import PinnedEnvironment, PinnedModel, PinnedWheel
from volume.publish import remove_folder, replace_file
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

    _mend(installer, f"environment-{environment.digest}", finding, remake)


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

    def remake(work: Path, lease: Lease) -> Path:
        folder = work / "repair"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        obtain(installer, model, files, folder, lease)
        return folder

    _mend(installer, model.resource, finding, remake)


def repair_prepared(installer: Installer, model: PinnedModel, finding: Finding) -> None:
    """Prepare the model again aside, and put the damaged files into their places."""

    def remake(work: Path, lease: Lease) -> Path:
        folder = work / "repair"
        shutil.rmtree(folder, ignore_errors=True)
        convert(installer, model, folder, lease)
        return folder

    _mend(installer, f"{model.resource}-{PREPARED}", finding, remake)


def repair_pack(installer: Installer, environment: PinnedEnvironment, finding: Finding) -> None:
    """Make the start pack again aside, and put it into its place."""

    def remake(work: Path, lease: Lease) -> Path:
        folder = work / "repair"
        shutil.rmtree(folder, ignore_errors=True)
        make(installer, environment, folder, lease)
        return folder

    _mend(installer, resource_of(finding.folder), finding, remake)


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


def _mend(
    installer: Installer, resource: str, finding: Finding, remake: Callable[[Path, Lease], Path]
) -> None:
    """Replace each damaged file by the one that `remake` made, and renew the manifests.

    Files that the pins or a wheel name were checked when they were made anew; what an installer
    generates (compiled modules, its own notes) may differ from what it was and is recorded so.
    """
    try:
        lease = acquire(
            installer.layout.leases / resource,
            is_done=lambda: False,
            on_wait=lambda owner: installer.say(f"{resource}: waiting for {owner}"),
            timing=installer.timing,
        )
        assert lease is not None  # noqa: S101 - only `is_done` ends the wait without one
        with lease:
            old = {file.path: file for file in intact_manifest(finding.folder) or ()}
            damaged = [path for path in finding.damaged if path not in {MANIFEST, TWIN}]
            if damaged:
                fresh = remake(
                    take_over(installer.layout.cache / resource, lease.generation), lease
                )
                absent = [path for path in damaged if not (fresh / path).is_file()]
                if absent and old:
                    raise DamagedError(f"{resource}: no source for {', '.join(absent)}")
                for path in damaged:
                    if path not in absent:
                        lease.check()
                        replace_file(fresh / path, finding.folder / path)
            renewed = {file.path: file for file in scan(finding.folder, damaged if old else None)}
            files = old | renewed
            lease.check()
            write_manifest(finding.folder, tuple(files[path] for path in sorted(files)))
            remove_folder(installer.layout.cache / resource)
    except OSError as error:
        raise explain(error) from error
