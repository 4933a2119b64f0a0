"""Pinned models -> checkpoint folders on the volume."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path

from volume.cached_models import link_cached, see_to_links, settle_links
from volume.errors import DamagedError, PreparationError
from volume.hub import NOTES, fetch_files
from volume.installer import Installer, program_variables
from volume.layout import PREPARED
from volume.lease import Lease
from volume.manifest import FileEntry, damaged_files, scan, write_manifest
from volume.own_models import obtain_fitting
from volume.pins import EMBEDDED, PinnedModel
from volume.process import run_child
from volume.progress import Progress
from volume.publish import publish_file_if_absent
from volume.space import bytes_below, require_space

COMPILE_SECONDS = 600  # that the kernels' compiler may take


def install_model(installer: Installer, model: PinnedModel) -> Path:
    """Return the model's folder, installed if need be, and see to its reference clips."""
    layout = installer.layout

    def build(work: Path, lease: Lease) -> Path:
        files = work / "files"
        files.mkdir(exist_ok=True)
        if model.source == "own":
            linked = obtain_fitting(installer, model, files, lease)
        else:
            linked = obtain(installer, model, model.files, files, lease)
        # The client's notes go last: an install that is killed from here on fetches again only the
        # small files that nothing but those notes vouched for.
        shutil.rmtree(files / NOTES, ignore_errors=True)
        rest = {file.path for file in model.files} - {file.path for file in linked}
        write_manifest(files, tuple(sorted((*linked, *scan(files, sorted(rest))))))
        settle_links(installer, files, final)
        return files

    final = layout.models / model.resource
    installer.ensure(model.resource, final, build)
    see_to_links(installer, model, final, partial(again, installer, model))
    if model.prepared and installer.lasting:
        prepare_model(installer, model)
    installer.say(f"{model.name}: licence {model.licence}")
    for voice in model.voices:
        publish_file_if_absent(
            EMBEDDED / model.name / "voices" / voice.path,
            layout.local_storage / "voices" / voice.path,
        )
    return final


def prepare_model(installer: Installer, model: PinnedModel) -> Path:
    """Return the folder with the model's faster files, made from the published ones if need be."""
    published = installer.layout.models / model.resource

    def build(work: Path, lease: Lease) -> Path:
        folder = work / "prepared"
        shutil.rmtree(folder, ignore_errors=True)
        convert(installer, model, folder, lease)
        write_manifest(folder, scan(folder))
        compile_kernels(installer, lease)
        return folder

    return installer.ensure(f"{model.resource}-{PREPARED}", published / PREPARED, build)


def convert(installer: Installer, model: PinnedModel, folder: Path, lease: Lease) -> None:
    """Write the prepared files into the new `folder`; raises PreparationError with the reason.

    The worker's own module does it, in the installed environment.
    """
    require_space(folder.parent, model.size, f"{model.name}, prepared")
    published = installer.layout.models / model.resource
    progress = Progress(f"{model.name}: preparing", model.size)

    def watch(written: int) -> None:
        lease.check()
        progress.show(written)

    command = [sys.executable, "-m", "worker.prepare", str(published), str(folder)]
    outcome = run_child(command, environment=program_variables(installer), watch=watch)
    if outcome.status:
        raise PreparationError(f"{model.name} could not be prepared:\n{outcome.last_lines}")
    progress.end()


def compile_kernels(installer: Installer, lease: Lease) -> None:
    """Compile the worker's kernels for all GPUs onto the volume, which needs none.

    A worker compiles what is missing by itself, so no failure is one of the install.
    """
    give_up = time.monotonic() + COMPILE_SECONDS

    def watch(_: int) -> None:
        lease.check()
        if time.monotonic() > give_up:
            raise TimeoutError(f"it took longer than {COMPILE_SECONDS} s")

    command = [sys.executable, "-m", "worker.speech.cuda.cubins", str(installer.layout.cubins)]
    try:
        outcome = run_child(command, environment=program_variables(installer), watch=watch)
        reason = outcome.last_lines if outcome.status else None
    except OSError as error:
        reason = str(error)
    if reason:
        installer.say(f"the kernels for GPUs are left for the first worker to compile:\n{reason}")


def again(
    installer: Installer,
    model: PinnedModel,
    files: tuple[FileEntry, ...],
    work: Path,
    lease: Lease,
) -> Path:
    """Return a folder below `work` with these files of the model, each had anew and checked."""
    folder = work / "repair"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    obtain(installer, model, files, folder, lease)
    return folder


def obtain(
    installer: Installer,
    model: PinnedModel,
    files: tuple[FileEntry, ...],
    folder: Path,
    lease: Lease,
) -> tuple[FileEntry, ...]:
    """Put `files` of the model into `folder`, each checked; return those that are links.

    A link leads to a file that the platform has cached. Raises DownloadError, FullError and
    DamagedError.
    """
    if model.source != "embedded":
        linked = link_cached(installer, model, files, folder, lease)
        there = {file.path for file in linked}
        if rest := tuple(file for file in files if file.path not in there):
            fetch_files(installer, model, rest, folder, lease)
        return linked
    size = sum(file.size or 0 for file in files)
    require_space(folder, size, model.name, held=bytes_below(folder))
    source = EMBEDDED / model.name / "checkpoint"
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file.path, target)
    if bad := damaged_files(folder, files):
        raise DamagedError(f"the embedded model {model.name} is damaged: {', '.join(bad)}")
    return ()
