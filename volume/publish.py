"""Staged on the volume, then renamed into place: a reader sees all of it or nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(cache: Path, name: str) -> Iterator[Path]:
    """Make an empty folder below `cache` that nobody else knows; remove it if it is left."""
    folder = cache / "staging" / f"{name}.{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush(folder: Path) -> None:
    """Have the filesystem of `folder` write everything, so that a rename never outruns its data."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
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
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, staged)
        flush(final.parent)
        try:
            os.link(staged, final)
        except FileExistsError:
            return False
        except OSError:  # a filesystem without hard links: a very short race is left
            if final.exists():
                return False
            staged.rename(final)
    finally:
        staged.unlink(missing_ok=True)
    return True
