"""Fetches pinned files from a Hugging Face hub, with the hub's own client.

The client runs in the environment that was installed before, as a program: this package imports
nothing outside the standard library. It goes on with a file where it stopped, and leaves beside
each file the revision and ETag that the hub gave: for a large file its sha256, for a small one the
id that git gives its content. So even a file whose sha256 is not pinned is checked.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from volume.errors import DownloadError
from volume.installer import Installer, environment_variables
from volume.lease import Lease
from volume.manifest import CHUNK, FileEntry, damaged_files, sha256_of
from volume.pins import PinnedModel
from volume.process import Outcome, run_child
from volume.progress import Progress
from volume.space import bytes_below, require_space
from volume.variables import TOKENS, for_hub

NOTES = ".cache"  # the client's folder in what it downloads to
METADATA = Path(NOTES) / "huggingface" / "download"
NOTE_MAX = 4096  # characters of one file's note, which has three lines


def fetch_files(
    installer: Installer,
    model: PinnedModel,
    files: tuple[FileEntry, ...],
    folder: Path,
    lease: Lease,
) -> None:
    """Download `files` into `folder` and check each; raises DownloadError, FullError.

    Files that are there already, whole and right, are not fetched again.
    """
    size = model.size if files == model.files else sum(file.size or 0 for file in files)
    progress = Progress(f"{model.name}: downloading", size)
    reason = "nothing was tried"
    anonymous = False
    for attempt in range(installer.attempts):
        bad = wrong_files(folder, files, model.revision)
        if not bad:
            progress.end()
            return
        for path in bad:
            (folder / path).unlink(missing_ok=True)
        held = bytes_below(folder)
        require_space(folder, size, model.name, held=held)
        if attempt:
            installer.say(f"{model.name}: attempt {attempt} failed: {reason}")
            time.sleep(installer.pause * 2 ** (attempt - 1))

        def watch(written: int, held: int = held) -> None:
            lease.check()
            progress.show(held + written)

        outcome = run_child(
            client_command(model, bad, folder),
            environment=client_environment(installer, folder, anonymous=anonymous),
            watch=watch,
        )
        reason = outcome.last_lines
        if not anonymous and _knows_no_token(outcome):
            anonymous = True
            installer.say(f"{model.name}: the hub does not know the token; asked without it")
    if bad := wrong_files(folder, files, model.revision):
        raise DownloadError(
            f"{model.name}: {', '.join(bad)} could not be had from {model.repository} at "
            f"{model.revision} in {installer.attempts} attempts; the hub's client says:\n{reason}"
        )
    progress.end()


def client_command(model: PinnedModel, paths: Sequence[str], folder: Path) -> list[str]:
    """Return the command that downloads these files of the model into `folder`."""
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "download", model.repository, *paths]
    return [*command, "--revision", model.revision, "--local-dir", str(folder)]


def _knows_no_token(outcome: Outcome) -> bool:
    """Say whether a hub refused the token itself, which it does even for public files."""
    has_token = any(os.environ.get(name) for name in TOKENS)
    return has_token and outcome.status != 0 and "401 Client Error" in outcome.output


def client_environment(
    installer: Installer, folder: Path, *, anonymous: bool = False
) -> dict[str, str]:
    """Return the variables under which the hub's client runs."""
    return environment_variables(installer, for_hub(os.environ, anonymous=anonymous)) | {
        "HF_HOME": str(folder / NOTES / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Only the plain protocol goes on in the middle of a file.
        "HF_HUB_DISABLE_XET": "1",
    }


def wrong_files(folder: Path, files: tuple[FileEntry, ...], revision: str) -> list[str]:
    """Return the files that are missing, or that neither the pins nor the hub vouch for."""
    bad = set(damaged_files(folder, files))
    for file in files:
        if file.path not in bad and file.sha256 is None:
            etag = recorded_etag(folder, file.path, revision)
            if etag is None or not has_etag(folder / file.path, etag):
                bad.add(file.path)
    return sorted(bad)


def recorded_etag(folder: Path, path: str, revision: str) -> str | None:
    """Return the ETag that the hub gave for a file at this revision, or None if unknown."""
    try:
        with (folder / METADATA / f"{path}.metadata").open() as file:
            lines = file.read(NOTE_MAX).splitlines()
        commit, etag = lines[0], lines[1]
    except (OSError, IndexError, UnicodeDecodeError):
        return None
    return etag if commit == revision else None


def has_etag(path: Path, etag: str) -> bool:
    """Say whether a file is the one of which the hub gives this ETag.

    A large file's is its sha256; any other's is the SHA-1 that git names its content by.
    """
    if len(etag) == 64:
        return sha256_of(path) == etag
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            blob.update(chunk)
    return blob.hexdigest() == etag
