"""Removes environments, models and start packs that are not pinned, never one in use."""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from volume.in_use import in_use
from volume.layout import PREPARED, Layout
from volume.lease import Lease, Timing, acquire, is_free, newest_beat, newest_claim
from volume.space import bytes_below

TRASH = "trash"  # the folder of the cache into which `gc` moves what is to go, and its lease


@dataclass(frozen=True)
class Removal:
    """A folder that was removed, or would be, and its bytes."""

    name: str
    bytes: int


def candidates(layout: Layout, keep: set[Path]) -> list[Path]:
    """Return the installed folders not in `keep`, and in those what an old recipe prepared."""
    starts = [path for path in layout.starts.glob("*") if path.is_dir()]
    installed = [*layout.environments.glob("*"), *layout.models.glob("*@*"), *starts]
    unnamed = [path for path in installed if path.is_dir() and path not in keep]
    kept = [path for path in installed if path in keep]
    outdated = [old for path in kept for old in path.glob("prepared-*") if old.name != PREPARED]
    return sorted(unnamed + outdated)


def collect(layout: Layout, keep: set[Path], *, dry_run: bool, timing: Timing) -> list[Removal]:
    """Remove what is not pinned and nobody uses, and what dead installers left behind.

    Users are looked for during `timing.takeover` seconds. Of several `gc` at once one does this,
    and the others wait for it.
    """
    trash = layout.cache / TRASH
    if dry_run:
        unused = _unused(layout, keep, timing)
        removed = [Removal(folder.name, bytes_below(folder)) for folder in unused]
    elif candidates(layout, keep) or trash.exists():
        with _alone(layout.leases / TRASH, timing):
            unused = _unused(layout, keep, timing)
            removed = [gone for folder in unused if (gone := _remove(folder, trash, layout.uses))]
            shutil.rmtree(trash, ignore_errors=True)
    else:
        removed = []
    return removed + _leftovers(layout, dry_run=dry_run, timing=timing)


@contextmanager
def _alone(leases: Path, timing: Timing) -> Iterator[None]:
    """Hold the lease of the trash: another `gc` would empty it of what is to be put back.

    A full volume takes no claim, and is cleaned without one: nothing else would make room.
    """
    with ExitStack() as held:
        try:
            lease = acquire(leases, is_done=lambda: False, timing=timing)  # so it comes in the end
            held.enter_context(lease or nullcontext())
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
        yield


def _unused(layout: Layout, keep: set[Path], timing: Timing) -> list[Path]:
    """Look for what is not pinned, and for its users; return what has none."""
    found = candidates(layout, keep)
    busy = in_use(layout.uses, timing.takeover) if found else set()
    return [folder for folder in found if _user(folder) not in busy]


def _user(folder: Path) -> str:
    """Return the name by which users of a folder announce themselves."""
    user = folder.parent if folder.name.startswith("prepared-") else folder
    return user.name


def _remove(folder: Path, trash: Path, uses: Path) -> Removal | None:
    """Move a folder into the trash; None where a user has come, and it is back in its place.

    It is first renamed away, then asked for again: a user says that it uses a thing before it
    looks for it, so either the second look sees the user and the folder comes back, or the user
    finds the folder gone and installs.
    """
    size = bytes_below(folder)
    moved = trash / uuid.uuid4().hex
    trash.mkdir(parents=True, exist_ok=True)
    folder.rename(moved)
    if any((uses / _user(folder)).glob("*")):
        _put_back(moved, folder)
        return None
    return Removal(folder.name, size)


def _put_back(moved: Path, folder: Path) -> None:
    """Undo a rename; what the folder's user has installed anew meanwhile stands instead."""
    try:
        moved.rename(folder)
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
        if work.name == TRASH or (dry_run and not is_free(leases, newest_claim(leases))):
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
