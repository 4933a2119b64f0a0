"""The pages of an Ogg file, as RFC 3533 has them: their stream's number, and their checksums.

libsndfile draws the number by the clock, and the same sound would give other bytes each time.
"""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

SERIAL = 1  # of the one stream of a file

_HEAD = struct.Struct("<4sBBqIIIB")  # OggS, version, kind, place, serial, number, checksum, lacings
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class PagesError(OSError):
    """What lies there is no page of Ogg."""


class File(Protocol):
    """A file that is open for reading and writing."""

    def seek(self, place: int, /) -> int:
        """Go to a place, counted from the start."""
        ...

    def read(self, size: int, /) -> bytes:
        """Give so many bytes; fewer at the end."""
        ...

    def write(self, content: bytes, /) -> int:
        """Write all of it."""
        ...


def set_serial(file: File, serial: int = SERIAL) -> None:
    """Give the stream of a whole Ogg file this number. Raises OSError."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(_HEAD.size)
        if not head:
            return
        page = _renumbered(head, file, serial)
        file.seek(place)
        file.write(page)
        place += len(page)


def _renumbered(head: bytes, file: File, serial: int) -> bytes:
    """The page that begins with `head`, with this number; the rest of it is read from `file`."""
    if len(head) != _HEAD.size or not head.startswith(b"OggS"):
        raise PagesError("not a page of Ogg")
    *fields, _, number, _, lacings = _HEAD.unpack(head)
    lengths = file.read(lacings)
    rest = lengths + file.read(sum(lengths))
    unsummed = _HEAD.pack(*fields, serial, number, 0, lacings) + rest
    return _HEAD.pack(*fields, serial, number, _checksum(unsummed), lacings) + rest


def _checksum(page: bytes) -> int:
    """The checksum of a page whose own is 0: the polynomial of zlib's, read the other way round.

    Ogg takes the highest bit of a byte first, and begins and ends without inverting.
    """
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
