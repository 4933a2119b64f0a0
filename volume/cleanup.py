"""Removes environments and models that are not pinned, never one in use."""

from __future__ import annotations

import errno
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from volume.in_use import in_use
from volume.layout import PREPARED, Layout
from volume.lease import Lease, Timing, acquire, is_free, newest_beat, newest_claim
from volume.space import bytes_below


@dataclass(frozen=True)
class Removal:
    """One thing that went (or would go), and its bytes."""

    name: str
    bytes: int


def candidates(layout: Layout, keep: set[Path]) -> list[Path]:
    """Return the installed folders not in `keep`, and in those what an old recipe prepared."""
    installed = [*layout.environments.glob("*"), *layout.models.glob("*@*")]
    unnamed = [path for path in installed if path.is_dir() and path not in keep]
    kept = [path for path in installed if path in keep]
    outdated = [old for path in kept for old in path.glob("prepared-*") if old.name != PREPARED]
    return sorted(unnamed + outdated)


def collect(layout: Layout, keep: set[Path], *, dry_run: bool, timing: Timing) -> list[Removal]:
    """Remove what is not pinned and nobody uses, and what dead installers left behind.

    Users are looked for during `timing.takeover` seconds.

    A folder is first renamed away, then asked for again: a user says that it uses a thing before
    it looks for it, so either the second look sees the user and the folder comes back, or the
    user finds the folder gone and installs.
    """
    found = candidates(layout, keep)
    busy = in_use(layout.uses, timing.takeover) if found else set()
    removed = []
    for folder in found:
        user = folder.parent if folder.name.startswith("prepared-") else folder
        if user.name in busy:
            continue
        size = bytes_below(folder)
        if not dry_run:
            trash = layout.cache / "trash" / uuid.uuid4().hex
            trash.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(trash)
            if any((layout.uses / user.name).glob("*")):
                _put_back(trash, folder)
                continue
        removed.append(Removal(folder.name, size))
    removed += _leftovers(layout, dry_run=dry_run, timing=timing)
    if not dry_run:
        shutil.rmtree(layout.cache / "trash", ignore_errors=True)
    return removed


def _put_back(trash: Path, folder: Path) -> None:
    """Undo a rename; what the folder's user has installed anew meanwhile stands instead."""
    try:
        trash.rename(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def _leftovers(layout: Layout, *, dry_run: bool, timing: Timing) -> list[Removal]:
    """Remove the work folders of installs that nobody is at, each under its own lease.

    An installer of another machine may have died without a word. It is waited for as at a takeover,
    and left alone as soon as anything moves. A dry run claims nothing and waits for nobody, so it
    leaves such work out.
    """
    removed = []
    for work in sorted(layout.cache.glob("*")):
        leases = layout.leases / work.name
        if work.name == "trash" or (dry_run and not is_free(leases, newest_claim(leases))):
            continue
        removal = Removal(f"cache/{work.name}", bytes_below(work))
        if not dry_run:
            lease = _abandoned(work, leases, timing)
            if lease is None:
                continue
            with lease:
                shutil.rmtree(work, ignore_errors=True)
        removed.append(removal)
    return removed


def _abandoned(work: Path, leases: Path, timing: Timing) -> Lease | None:
    """Wait for the lease of a work folder; None when somebody is at it, or has just ended."""
    seen = newest_beat(leases)

    def is_alive() -> bool:
        return newest_beat(leases) != seen or not work.exists()

    return acquire(leases, is_done=is_alive, timing=timing)
