"""A file that ends when the time is up, or the job was cancelled: so does what loops over it."""

from __future__ import annotations

import os
from typing import BinaryIO

from worker.audio.recordings.take import Bounds


class Watched:
    """What the decoders read in the file's place.

    It raises nothing, for it is called from C: PyAV keeps an exception until its next call, and
    soundfile prints it.
    """

    def __init__(self, file: BinaryIO, bounds: Bounds) -> None:
        self._file = file
        self._bounds = bounds
        self.tell = file.tell
        self.seek(0)

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        return b"" if self._bounds.over else self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there; -1 where there is no such place, as before the first byte."""
        try:
            return -1 if self._bounds.over else self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1
