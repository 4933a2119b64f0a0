"""The start pack on the volume: made once for an environment and a worker, by a rehearsal."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from volume.errors import PreparationError
from volume.installer import Installer, program_variables
from volume.lease import Lease
from volume.manifest import scan, write_manifest
from volume.pins import PinnedEnvironment
from volume.process import run_child
from volume.space import require_space
from volume.start_pack.key import pack_key
from volume.start_pack.pack import NAME
from volume.start_pack.packing import pack
from volume.start_pack.recording import Recording

SECONDS = 300.0  # that a rehearsal may take; on a slow volume a start without a pack takes 55
ROOM = 512 << 20  # bytes, of a pack at most
FAILED = ".failed"  # the ending of a file that says why a pack could not be made


def pack_folder(installer: Installer, environment: PinnedEnvironment) -> Path:
    """Return the place of the pack for this worker in this environment."""
    return installer.layout.starts / pack_key(environment.digest)


def install_pack(installer: Installer, environment: PinnedEnvironment, silent: int = 0) -> Path:
    """Return the pack's folder, made if need be. Raises VolumeError, PreparationError among them.

    The environment and a model must be installed: a start is rehearsed.
    """
    final = pack_folder(installer, environment)

    def build(work: Path, lease: Lease) -> Path:
        folder = work / "pack"
        shutil.rmtree(folder, ignore_errors=True)
        make(installer, environment, folder, lease)
        write_manifest(folder, scan(folder))
        return folder

    made = installer.ensure(resource_of(final), final, build, silent)
    failure_of(final).unlink(missing_ok=True)
    return made


def offer_pack(installer: Installer, environment: PinnedEnvironment) -> Path | None:
    """Return the pack's folder for a worker that starts now; None where it does without.

    It is made where nobody is at it and nobody has failed, which is told and no reason to stop.
    """
    if installer.in_image is not None:  # on the container's disk, where nothing is slow
        return None
    final = pack_folder(installer, environment)
    if final.is_dir():
        return final
    lacking = installer.rehearsal is None or not installer.site_packages.is_dir()
    if lacking or failure_of(final).exists():
        return None
    try:
        claim = installer.free_claim(resource_of(final))
        if claim is None:
            installer.say("start pack: another worker makes it; this one starts without")
            return None
        return install_pack(installer, environment, claim)
    except Exception as error:  # whatever was recorded or read: it is a help, and no more
        installer.say(f"start pack: this worker starts without: {error}")
        return None


def resource_of(folder: Path) -> str:
    """The name under which the pack is leased."""
    return f"start-{folder.name}"


def failure_of(folder: Path) -> Path:
    """The file that says why the pack could not be made: `run` does not try again, `install` does.

    Every worker would else spend its start on a rehearsal that fails.
    """
    return folder.with_name(folder.name + FAILED)


def make(installer: Installer, environment: PinnedEnvironment, folder: Path, lease: Lease) -> None:
    """Rehearse a start and write its pack into the new `folder`. Raises PreparationError."""
    folder.mkdir(parents=True)
    require_space(folder, ROOM, "the start pack")
    final = pack_folder(installer, environment)
    installer.say("start pack: a start is rehearsed, to record what it reads")
    begun = time.monotonic()
    try:
        rehearse(installer, folder.with_name("recording.json"), lease)
        recording = Recording.read(folder.with_name("recording.json"))
    except (PreparationError, ValueError, KeyError, TypeError) as error:
        final.parent.mkdir(parents=True, exist_ok=True)
        failure_of(final).write_text(f"{error}\n")
        raise PreparationError(f"the start pack could not be made: {error}") from None
    index = pack(recording, installer.site_packages, final.name, folder / NAME)
    installer.say(
        f"start pack: {sum(len(s.paths) for s in index.segments)} files in one, "
        f"made in {time.monotonic() - begun:.1f} s"
    )


def rehearse(installer: Installer, out: Path, lease: Lease) -> None:
    """Run the rehearsal in the installed environment, and record it. Raises PreparationError."""
    give_up = time.monotonic() + SECONDS

    def watch(_: int) -> None:
        lease.check()
        if time.monotonic() > give_up:
            raise PreparationError(f"the rehearsal took longer than {SECONDS:g} s")

    module = installer.rehearsal or "none"
    command = [sys.executable, "-m", "volume.start_pack.recording", str(out), module]
    outcome = run_child(command, environment=program_variables(installer), watch=watch)
    if outcome.status:
        raise PreparationError(f"the rehearsal failed:\n{outcome.last_lines}")
