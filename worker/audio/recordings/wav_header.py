"""The lengths in a WAV's header, which recorders and pipes leave wrong, beside what is there.

RIFF and RF64: Microsoft's RIFF/WAVE, EBU Tech 3306. A program that writes into a pipe cannot go
back and fill the lengths in: it leaves 0, or as much as fits. One that dies leaves older ones.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from worker.audio.recordings.take import Bounds

STREAMED_BYTES = 0x7FFF_0000  # recorders that stream promise about this much or twice it
_IN_DS64 = 0xFFFF_FFFF  # in place of a length that stands in the chunk ds64
_MAGICS = (b"RIFF", b"RF64", b"BW64")
_TAGS = (b"ID3", b"TAG", b"APETAGEX")  # of taggers that know no chunks
_CHUNK = 8  # bytes of its id and length
_CHUNKS_MAX = 1_000  # before the sound
_JOINED_MAX = 1_000
_WAV = re.compile(rb"(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_NO_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class _Sound:
    """Where one WAV lies in the file, and its sound."""

    start: int
    data: int  # the first byte of sound
    promised: int | None  # bytes of sound, where the header knows
    end: int  # of the sound
    ds64: int | None  # the place of the long lengths
    honest: bool  # whether the header can be read as it is


def mended(path: Path, bounds: Bounds) -> list[io.BytesIO] | None:
    """The WAVs in a file with headers that say what is there; None where it needs no mending.

    A file has more than one where several were joined. Raises VoiceError for one that honestly says
    that it has more than there is.
    """
    with path.open("rb") as file:
        if file.read(4) not in _MAGICS:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _mended(content, bounds)


def _mended(content: mmap.mmap, bounds: Bounds) -> list[io.BytesIO] | None:
    sounds = list(islice(_sounds(content), _JOINED_MAX + 1))
    if len(sounds) > _JOINED_MAX:
        raise bounds.undecodable(f"more than {_JOINED_MAX} WAVs are joined in it")
    for sound in sounds:
        if sound.promised is not None and sound.data + sound.promised > len(content):
            raise bounds.cut_short(len(content) - sound.data, sound.promised, "bytes")
    if all(sound.honest for sound in sounds):
        return None
    return [_rewritten(content, sound) for sound in sounds]


def _sounds(content: mmap.mmap) -> Iterator[_Sound]:
    """The WAVs that lie one behind the other."""
    start = 0
    while (sound := _sound(content, start)) is not None:
        joined = _is_wav(content, _padded(sound.end, sound.data))
        alone = start == 0 and not joined
        yield sound if alone else replace(sound, honest=False)
        if not joined:
            return
        start = _padded(sound.end, sound.data)


def _sound(content: mmap.mmap, start: int) -> _Sound | None:
    """The WAV at `start`; None where there is none whose sound can be found."""
    if not _is_wav(content, start):
        return None
    ds64: int | None = None
    place = start + 12
    for _ in range(_CHUNKS_MAX):
        if place + _CHUNK > len(content):
            break
        name, size = struct.unpack_from("<4sI", content, place)
        place += _CHUNK
        if name == b"ds64" and place + 16 <= len(content):
            ds64 = place
        if name == b"data":
            return _found(content, start, place, size, ds64)
        place += size + size % 2
    return None


def _found(content: mmap.mmap, start: int, data: int, size: int, ds64: int | None) -> _Sound:
    promised = size
    if size == _IN_DS64 and ds64 is not None:
        promised = struct.unpack_from("<Q", content, ds64 + 8)[0]
    there = len(content) - data
    if promised >= STREAMED_BYTES and promised > there:
        return _Sound(start, data, None, _next_wav(content, data), ds64, honest=False)
    if promised >= there:
        return _Sound(start, data, promised, data + there, ds64, honest=True)
    end = data + promised
    if _is_end(content, end) or _is_end(content, _padded(end, data)):
        return _Sound(start, data, promised, end, ds64, honest=True)
    return _Sound(start, data, None, _next_wav(content, data), ds64, honest=False)


def _next_wav(content: mmap.mmap, place: int) -> int:
    """Where the next WAV begins, or the file ends."""
    found = _WAV.search(content, place)
    return len(content) if found is None else found.start()


def _is_end(content: mmap.mmap, place: int) -> bool:
    """Whether no sound follows: nothing does, or a chunk, another WAV, a tag or zeros."""
    rest = content[place : place + 12]
    if len(rest) < _CHUNK or rest.startswith(_TAGS) or _is_wav(content, place):
        return True
    name, size = struct.unpack_from("<4sI", rest)
    if all(0x20 <= letter < 0x7F for letter in name) and place + _CHUNK + size <= len(content) + 1:
        return True
    return _NO_ZERO.search(content, place) is None


def _is_wav(content: mmap.mmap, place: int) -> bool:
    return content[place : place + 4] in _MAGICS and content[place + 8 : place + 12] == b"WAVE"


def _padded(end: int, data: int) -> int:
    """The place of the next chunk: chunks begin at even places."""
    return end + (end - data) % 2


def _rewritten(content: mmap.mmap, sound: _Sound) -> io.BytesIO:
    """The one WAV alone, its lengths those of what is there."""
    header = bytearray(content[sound.start : sound.data])
    length = sound.end - sound.data
    whole = len(header) - _CHUNK + length
    struct.pack_into("<I", header, 4, whole)
    struct.pack_into("<I", header, len(header) - 4, length)
    if sound.ds64 is not None:
        struct.pack_into("<QQ", header, sound.ds64 - sound.start, whole, length)
    file = io.BytesIO()
    file.write(header)
    file.write(content[sound.data : sound.end])
    file.seek(0)
    return file
