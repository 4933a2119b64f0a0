"""Errors of the volume, each with its exit status.

VolumeError                 1
|-- PinError                2   no such thing is pinned, or the pins cannot be read
|-- NotMountedError         3   there is no volume
|-- NotWritableError        4   something must be installed, and the volume is read-only
|-- FullError               5   it does not fit; the message names the missing bytes
|-- DamagedError            6   files are not what the pins or the manifest say
|-- DownloadError           7   the index or the hub did not give what is pinned
|-- PreparationError        8   the model could not be converted for fast loading
|   `-- UnfitModelError     8   an operator's own model is none that the worker can speak with
`-- LeaseLostError          9   another installer took over while this one stood still
"""

from __future__ import annotations

import errno
from typing import ClassVar


class VolumeError(Exception):
    """Something that the operator should read; the message says what to do."""

    exit_status: ClassVar[int] = 1


class PinError(VolumeError):
    """No such thing is pinned, or the pins cannot be read."""

    exit_status = 2


class NotMountedError(VolumeError):
    """There is no volume."""

    exit_status = 3


class NotWritableError(VolumeError):
    """Something must be written and the volume refuses."""

    exit_status = 4


class FullError(VolumeError):
    """It does not fit."""

    exit_status = 5


class DamagedError(VolumeError):
    """Files are not what the pins or the manifest say."""

    exit_status = 6


class DownloadError(VolumeError):
    """The index or the hub did not give what is pinned."""

    exit_status = 7


class PreparationError(VolumeError):
    """The model could not be converted for fast loading."""

    exit_status = 8


class UnfitModelError(PreparationError):
    """An operator's own model is none that the worker can speak with; each reason is named."""


class LeaseLostError(VolumeError):
    """Another installer took over while this one stood still."""

    exit_status = 9


def explain(error: OSError) -> VolumeError:
    """Turn what the filesystem said into what the operator should do."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return NotWritableError(
            f"the volume is incomplete and cannot be written{where}: mount it for writing once, "
            "or install on another machine that can"
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FullError(f"the volume is full{where}: make room, or use a larger volume")
    return VolumeError(f"the volume failed: {error.strerror}{where}")
