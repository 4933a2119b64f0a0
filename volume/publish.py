"""Publishing: a staged folder or file gets its name, and a reader sees all of it or nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from volume.atomic_write import flush_file, replacing, staging


def flush(path: Path) -> None:
    """Have the filesystem that holds `path` write everything, so no rename outruns its data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def publish_folder(staged: Path, final: Path) -> bool:
    """Rename a complete folder to where readers look; False when another was there first.

    A rename onto a folder that is not empty fails on every POSIX filesystem, so of any number of
    installers exactly one publishes.
    """
    flush(staged)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(final)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST} and final.is_dir():
            return False
        raise
    return True


def publish_file_if_absent(source: Path, final: Path) -> bool:
    """Copy a file to a place whose file, if there is one, is left as it is; True when copied."""
    if final.exists():
        return False
    with staging(final) as staged:
        shutil.copyfile(source, staged)
        flush_file(staged)
        try:
            os.link(staged, final)
        except FileExistsError:
            return False
        except OSError:  # a filesystem without hard links: a very short race is left
            if final.exists():
                return False
            staged.rename(final)
    return True


def replace_file(source: Path, final: Path) -> None:
    """Put a copy of `source` in the place of a file; who has the old one open keeps it."""
    with replacing(final) as staged:
        shutil.copyfile(source, staged)


def replace_by_link(target: Path, final: Path) -> None:
    """Put a link to the file `target` in the place of a file; who has the old one open keeps it."""
    with staging(final) as staged:
        staged.symlink_to(target)
        staged.replace(final)


def portable(target: Path, link: Path, mount: Path) -> Path:
    """Return what a link at `link` should hold to lead to `target`, wherever the volume is mounted.

    What lies on the volume is named from the link, anything else by its absolute path.
    """
    inside = target.resolve().is_relative_to(mount.resolve())
    return Path(os.path.relpath(target.resolve(), link.parent.resolve())) if inside else target


def remove_folder(folder: Path) -> None:
    """Remove a folder of which no reader knows, and what cannot be removed leave to `gc`."""
    with suppress(OSError):
        shutil.rmtree(folder)
