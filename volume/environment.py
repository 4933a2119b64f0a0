"""Pinned wheels -> site-packages, by uv, every wheel by its hash."""

from __future__ import annotations

import base64
import csv
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from volume.errors import DamagedError, DownloadError, PinError, VolumeError
from volume.fitness import check_abi
from volume.installer import Installer
from volume.lease import Lease
from volume.manifest import FileEntry, scan, write_manifest
from volume.pins import PinnedEnvironment, PinnedWheel
from volume.process import run_child
from volume.progress import Progress
from volume.space import bytes_below, missing_bytes, require_space
from volume.variables import for_uv

# Compiled files, the uv cache's own and metadata, as a share of what the wheels hold.
OVERHEAD = 1.15


def install_environment(installer: Installer, environment: PinnedEnvironment) -> Path:
    """Return the environment's folder, installed if need be; its modules are in site-packages/.

    Where the image brings it, it is looked for and nothing is installed.
    """
    final = installer.site_packages.parent
    if (running := f"{sys.version_info.major}.{sys.version_info.minor}") != environment.python:
        raise PinError(
            f"the environment is pinned for Python {environment.python}; this is {running}"
        )

    if installer.in_image is not None:
        if not installer.site_packages.is_dir():
            raise DamagedError(f"the image's environment is not at {final}: pull the image again")
        return final

    def build(work: Path, lease: Lease) -> Path:
        folder = work / "environment"
        shutil.rmtree(folder, ignore_errors=True)
        install_wheels(installer, environment.wheels, folder / "site-packages", work / "uv", lease)
        (folder / "site-packages" / ".lock").unlink(missing_ok=True)  # uv's, of no use to readers
        progress = Progress("environment: checking", environment.size)
        files = scan(folder)
        check_records(folder / "site-packages", files)
        check_abi(environment.wheels, folder / "site-packages")
        write_manifest(folder, files)
        progress.end()
        return folder

    return installer.ensure(f"environment-{environment.digest}", final, build)


def install_wheels(
    installer: Installer, wheels: tuple[PinnedWheel, ...], target: Path, cache: Path, lease: Lease
) -> None:
    """Install wheels into the new folder `target`, from what `cache` has and the index."""
    if shutil.which(installer.uv) is None:
        raise VolumeError("the environment is installed by uv, which is missing: put it on PATH")
    cache.mkdir(parents=True, exist_ok=True)
    size = sum(wheel.unpacked for wheel in wheels)
    needed = int(size * OVERHEAD) * (1 if can_link(cache) else 2)
    command = uv_command(installer, wheels, target, cache)
    progress = Progress("environment: installing", size)
    reason = "nothing was tried"

    def watch(written: int) -> None:
        lease.check()
        progress.show(written)

    for attempt in range(installer.attempts):
        require_space(cache, needed, "the environment", held=bytes_below(cache))
        shutil.rmtree(target, ignore_errors=True)
        outcome = run_child(command, environment=uv_variables(), watch=watch)
        if outcome.status == 0:
            progress.end()
            return
        reason = outcome.last_lines
        held = bytes_below(cache)
        if "No space left" in outcome.output or missing_bytes(cache, needed - held):
            require_space(cache, needed, "the environment", held=held)
        installer.say(f"environment: attempt {attempt + 1} failed:\n{reason}")
        if attempt + 1 < installer.attempts:
            time.sleep(installer.pause * 2**attempt)
    raise DownloadError(
        f"the environment could not be installed after {installer.attempts} attempts; uv says:\n"
        f"{reason}"
    )


def uv_command(
    installer: Installer, wheels: tuple[PinnedWheel, ...], target: Path, cache: Path
) -> list[str]:
    """Return the command that installs these wheels alone; their list is written into `cache`."""
    requirements = cache / "requirements.txt"
    lines = [requirement(wheel, offline=installer.wheelhouse is not None) for wheel in wheels]
    requirements.write_text("\n".join(lines) + "\n")
    command = [installer.uv, "pip", "install", "--target", str(target), "--python", sys.executable]
    command += ["--require-hashes", "--no-deps", "--no-build", "--compile-bytecode", "--no-color"]
    command += ["--cache-dir", str(cache), "-r", str(requirements)]
    if installer.wheelhouse is not None:
        command += ["--no-index", "--find-links", str(installer.wheelhouse)]
    return command


def uv_variables() -> dict[str, str]:
    """Return the variables under which uv runs."""
    return for_uv(os.environ) | {
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",  # another's uv.toml, which may say what a variable may not
        # Fewer at once: what a kill interrupts starts from its first byte again.
        "UV_CONCURRENT_DOWNLOADS": os.environ.get("UV_CONCURRENT_DOWNLOADS", "8"),
        # The version in flash-attn's file name has more parts than the one in its metadata.
        "UV_SKIP_WHEEL_FILENAME_CHECK": "1",
        # A volume that is shared by machines keeps no promise about times, so do not compare them.
        "PYC_INVALIDATION_MODE": "UNCHECKED_HASH",
    }


def requirement(wheel: PinnedWheel, *, offline: bool) -> str:
    """Return the line of a requirements file that this wheel alone satisfies."""
    where = f" @ {wheel.url}" if wheel.url and not offline else f"=={wheel.version}"
    return f"{wheel.name}{where} --hash=sha256:{wheel.sha256}"


def can_link(folder: Path) -> bool:
    """Say whether files here can have two names, so that uv's cache costs no room."""
    probe, link = folder / "link-probe", folder / "link-probe-2"
    probe.write_bytes(b"")
    try:
        os.link(probe, link)
    except OSError:
        return False
    finally:
        probe.unlink()
        link.unlink(missing_ok=True)
    return True


def check_records(site: Path, files: Iterable[FileEntry]) -> None:
    """Raise DamagedError unless every file is as the RECORD of its wheel says."""
    found = {file.path: file.sha256 for file in files}
    for record in sorted(site.glob("*.dist-info/RECORD")):
        for path, sha256 in recorded(record).items():
            if sha256 and found.get(f"{site.name}/{path}") != sha256:
                raise DamagedError(f"{path} is not what {record.parent.name} says; install again")


def recorded(record: Path) -> dict[str, str]:
    """Return the sha256 in hexadecimal of each path that a RECORD names, empty where it has none.

    The format is that of the PyPA specification "Recording installed projects".
    """
    with record.open(newline="") as file:
        return {row[0]: _hexadecimal(row[1]) for row in csv.reader(file) if len(row) == 3}


def _hexadecimal(record_hash: str) -> str:
    name, _, value = record_hash.partition("=")
    return (
        base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex() if name == "sha256" else ""
    )
