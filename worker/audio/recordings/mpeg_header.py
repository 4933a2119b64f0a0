"""What an MP3 says of its own length, where somebody counted.

A file of MPEG audio is frames, one behind the other, and has no header of its own. Encoders put a
first frame without sound in front that holds the number of the others: "Xing" (or "Info", in a
file of one bit rate), or "VBRI" by Fraunhofer's. Without it the length is what somebody estimates
from the size of the file and of its first frames.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_ID3_HEADER = 10  # bytes
_TAGS_MAX = 10
_SEARCHED = 8_192  # bytes behind the tags, in which the first frame begins
_MPEG1, _MONO = 3, 3  # as the header's bits have them
_SAMPLES = {True: 1_152, False: 576}  # of a frame of layer III, by whether it is MPEG 1
_SIDE_INFO = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
_HAS_FRAMES = 1


def promised_samples(file: BinaryIO) -> int | None:
    """How many samples the file says that it has, the encoder's delay included; or None."""
    file.seek(0)
    for _ in range(_TAGS_MAX):
        tag = file.read(_ID3_HEADER)
        if tag[:3] != b"ID3" or len(tag) < _ID3_HEADER:
            break
        size = 0
        for part in tag[6:]:
            size = size << 7 | part & 0x7F
        file.seek(size, 1)
    content = tag + file.read(_SEARCHED)
    place = content.find(b"\xff")
    while place >= 0:
        if (found := _promised(content[place:])) is not None:
            return found
        place = content.find(b"\xff", place + 1)
    return None


def _promised(frame: bytes) -> int | None:
    """The samples that the frame promises; None where it is no frame, or promises nothing."""
    if len(frame) < 4 or frame[1] & 0xE6 != 0xE2:  # the rest of the sync, and layer III
        return None
    mpeg1 = frame[1] >> 3 & 3 == _MPEG1
    mono = frame[3] >> 6 == _MONO
    place = 4 + _SIDE_INFO[mpeg1, mono]
    if frame[place : place + 4] in (b"Xing", b"Info") and len(frame) >= place + 12:
        flags, frames = struct.unpack_from(">II", frame, place + 4)
        return frames * _SAMPLES[mpeg1] if flags & _HAS_FRAMES else None
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int(struct.unpack_from(">I", frame, 50)[0]) * _SAMPLES[mpeg1]
    return None
