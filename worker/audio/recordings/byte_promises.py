"""Files that say how many bytes they have, beside what came: a recording that was cut on its way.

MP4 (ISO 14496-12) is boxes with their lengths; Matroska and WebM (RFC 8794, RFC 9559) one segment
with its own, unless it was written live; ASF, which WMA is, has its sound in one object; AIFF, AU,
CAF and W64 have the length of the whole or of their sound, and libsndfile is content with less.
What says nothing, as ADTS, AMR and OGG do, cannot be known to be cut. WAV is `wav_header`'s.

So are other numbers that cannot be: each sample of an MP4 has at least a byte, and each page of an
OGG some, so that more of them than fit would only take memory and time.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from worker.audio.recordings.take import Bounds
from worker.audio.recordings.wav_header import STREAMED_BYTES

_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_OGG = b"OggS"
_OGG_PAGE_BYTES = 27  # at least, RFC 3533
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_MP4_MARKS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof")
_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_COUNTED = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # the place of the number of samples in the box
_BOXES_MAX = 100_000  # a minute in parts of one packet each has a third of it
_DEPTH_MAX = 8
_CHUNKS_MAX = 1_000


def check(file: BinaryIO, bounds: Bounds) -> None:
    """Raise VoiceError for a file that says that it has more than it has."""
    size = file.seek(0, os.SEEK_END)
    # A place that no file has: it is damaged, and its decoder will say so.
    with suppress(OSError, OverflowError):
        _check(file, size, bounds)


def _check(file: BinaryIO, size: int, bounds: Bounds) -> None:
    file.seek(0)
    head = file.read(16)
    if head[4:8] in _MP4_MARKS:
        _check_mp4(file, size, bounds)
    elif head[:4] == _MATROSKA:
        _check_end(_end_of_segment(file), size, bounds)
    elif head[:4] == _OGG:
        _check_ogg(file, size, bounds)
    elif head == _ASF_HEADER:
        _check_end(_end_of_asf(file), size, bounds)
    else:
        _check_end(_end_of_uncompressed(file, head), size, bounds)


def _check_end(promised: int | None, size: int, bounds: Bounds) -> None:
    if promised is not None and promised > size:
        raise bounds.cut_short(size, promised, "bytes")


# MP4


@dataclass(frozen=True)
class _Box:
    name: bytes
    content: int  # its first byte
    end: int


def _check_mp4(file: BinaryIO, size: int, bounds: Bounds) -> None:
    names: set[bytes] = set()
    samples = 0
    for number, box in enumerate(_boxes(file, 0, size)):
        if box.end > size and box.name in {b"mdat", b"moov", b"moof"}:
            raise bounds.cut_short(size, box.end, "bytes")
        if number > _BOXES_MAX:
            raise bounds.undecodable("an MP4 of too many parts")
        names.add(box.name)
        if box.name in _COUNTED:
            file.seek(box.content + _COUNTED[box.name])
            samples += int.from_bytes(file.read(4), "big")
    if samples > size:
        raise bounds.undecodable("an MP4 that says it has more samples than bytes")
    if names.isdisjoint({b"moov", b"meta"}):  # a picture, HEIC, has the second alone
        raise bounds.fault(
            "is an MP4 file without its index (moov), which is written last: it is cut short, or "
            "was still being recorded; upload the whole file"
        )


def _boxes(file: BinaryIO, place: int, end: int, depth: int = 0) -> Iterator[_Box]:
    """The boxes between two places, and those within the ones that hold others."""
    while place + 8 <= end:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        content = place + 8
        if length == 1:
            length, content = int.from_bytes(file.read(8), "big"), place + 16
        after = place + length if length else end
        yield _Box(name, content, after)
        if after < content:  # damaged: no box is shorter than its head
            return
        if name in _HOLDERS and depth < _DEPTH_MAX:
            yield from _boxes(file, content, min(after, end), depth + 1)
        place = after


# OGG


def _check_ogg(file: BinaryIO, size: int, bounds: Bounds) -> None:
    """Refuse a file of more pages than fit: libsndfile looks for seconds at what are none."""
    file.seek(0)
    pages = sum(1 for _ in re.finditer(_OGG, file.read()))
    if pages * _OGG_PAGE_BYTES > size:
        raise bounds.undecodable("it is damaged")


# Matroska


def _end_of_segment(file: BinaryIO) -> int | None:
    """Where the segment ends; None where its length is not known."""
    file.seek(4)
    head = _vint(file)
    if head is None:
        return None
    file.seek(head, 1)
    if file.read(4) != _SEGMENT or (length := _vint(file)) is None:
        return None
    return file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """A length of EBML, whose first zeros say how many bytes it has; None for one not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & (1 << 7 * (more + 1)) - 1
    return None if value == (1 << 7 * (more + 1)) - 1 else value


# ASF


def _end_of_asf(file: BinaryIO) -> int | None:
    """Where the object of the sound ends; None where it is live, or not there."""
    file.seek(16)
    place = int.from_bytes(file.read(8), "little")
    file.seek(place)
    if file.read(16) != _ASF_DATA:
        return None
    length = int.from_bytes(file.read(8), "little")
    return place + length if length else None


# Uncompressed


def _end_of_uncompressed(file: BinaryIO, head: bytes) -> int | None:
    """Where an AIFF, AU, CAF or W64 ends; None for a length that nobody filled in, and all else."""
    if head[:4] == b"FORM":
        end = 8 + int.from_bytes(head[4:8], "big")
    elif head[:4] == b".snd":
        end = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    elif head[:4] == b"caff":
        end = _end_of_caf(file)
    elif head[:4] == b"riff":
        file.seek(16)  # behind the name, which has as many bytes
        end = int.from_bytes(file.read(8), "little")
    else:
        return None
    return end if end < STREAMED_BYTES else None


def _end_of_caf(file: BinaryIO) -> int:
    place = 8
    for _ in range(_CHUNKS_MAX):
        file.seek(place)
        chunk = file.read(12)
        place += 12 + int.from_bytes(chunk[4:], "big")  # all ones: not known
        if len(chunk) < 12 or chunk[:4] == b"data" or place >= STREAMED_BYTES:
            break
    return place
