"""Damaged audio files: real ones in every format, each changed in one way, by its number.

`damaged(number)` is the same bytes on every run, so that a number is enough to see one again.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile as sf

from tests.support.encoded import encoded
from tests.support.sounds import speech, tone

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Damaged:
    """A file's bytes and how they came about."""

    number: int
    base: str
    change: str
    content: bytes


PHONES: dict[str, tuple[int, str, str]] = {
    "m4a": (16_000, "ipod", "aac"),
    "alac": (16_000, "ipod", "alac"),
    "adts": (16_000, "adts", "aac"),
    "webm": (16_000, "webm", "libopus"),
    "mkv": (16_000, "matroska", "flac"),
    "3gp": (8_000, "3gp", "libopencore_amrnb"),
    "amr": (8_000, "amr", "libopencore_amrnb"),
    "wma": (16_000, "asf", "wmav2"),
    "ogg_flac": (16_000, "ogg", "flac"),
    "caf": (16_000, "caf", "alac"),
}


@lru_cache(maxsize=1)
def bases() -> dict[str, bytes]:
    """Whole files that every check accepts."""
    said = speech("The reference voice speaks for a little more than two seconds.")
    wide = np.stack([said, tone(300, len(said) / 16_000)[: len(said)]], axis=1)
    kinds = {
        "wav": (said, 16_000, "WAV", "PCM_16"),
        "wav8": (said[::2], 8_000, "WAV", "PCM_U8"),
        "wav24": (wide, 16_000, "WAVEX", "PCM_24"),
        "wav_float": (said, 16_000, "WAV", "FLOAT"),
        "wav_adpcm": (said, 16_000, "WAV", "IMA_ADPCM"),
        "flac": (said, 16_000, "FLAC", "PCM_16"),
        "flac2": (wide, 48_000, "FLAC", "PCM_24"),
        "mp3": (said, 16_000, "MP3", "MPEG_LAYER_III"),
        "mp3_2": (wide, 44_100, "MP3", "MPEG_LAYER_III"),
        "ogg": (said, 16_000, "OGG", "VORBIS"),
        "opus": (said, 16_000, "OGG", "OPUS"),
        "aiff": (said, 16_000, "AIFF", "PCM_16"),
    }
    files = {name: _encoded(*kind) for name, kind in kinds.items()}
    return files | {name: encoded(said, *kind, bit_rate=32_000) for name, kind in PHONES.items()}


def _encoded(samples: np.ndarray, rate: int, container: str, coding: str) -> bytes:
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with sf.SoundFile(file, "w", rate, channels, coding, format=container) as sink:
        for start in range(0, len(samples), 4096):  # libvorbis puts a block on its stack
            sink.write(samples[start : start + 4096])
    return file.getvalue()


def damaged(number: int) -> Damaged:
    """The file of this number."""
    chance = random.Random(f"audio {number}")
    base = chance.choice(sorted(bases()))
    name = chance.choice(sorted(CHANGES))
    return Damaged(number, base, name, CHANGES[name](bases()[base], chance))


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _headless(content: bytes, chance: random.Random) -> bytes:
    return content[chance.randrange(1, 200) :]


def _flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 2, 8, 64])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flipped_header(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 2, 4])):
        changed[chance.randrange(min(len(changed), 120))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _lying_header(content: bytes, chance: random.Random) -> bytes:
    """A number in the header becomes an extreme one."""
    width, code = chance.choice([(1, "B"), (2, "H"), (4, "I"), (8, "Q")])
    top = (1 << (8 * width)) - 1
    value = chance.choice([0, 1, 2, top, top - 1, top >> 1, (top >> 1) + 1, chance.randint(0, top)])
    place = chance.randrange(min(len(content) - width, 120))
    packed = struct.pack(chance.choice("<>") + code, value)
    return content[:place] + packed + content[place + width :]


def _overwritten(content: bytes, chance: random.Random) -> bytes:
    length = chance.choice([4, 64, 1024, len(content) // 4])
    start = chance.randrange(max(len(content) - length, 1))
    filling = chance.choice([bytes(length), b"\xff" * length, chance.randbytes(length)])
    return content[:start] + filling + content[start + length :]


def _missing_middle(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) // 2)
    return content[:start] + content[start + chance.randrange(1, len(content) // 2) :]


def _inserted(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + chance.randbytes(chance.choice([1, 3, 100, 5000])) + content[place:]


def _repeated(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) // 2)
    piece = content[start : start + chance.randrange(1, 4000)]
    return content[:start] + piece * chance.choice([2, 50]) + content[start:]


def _spliced(content: bytes, chance: random.Random) -> bytes:
    """The head of one file and the tail of another, perhaps of another format."""
    other = bases()[chance.choice(sorted(bases()))]
    return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]


def _behind_another(content: bytes, chance: random.Random) -> bytes:
    return bases()[chance.choice(sorted(bases()))] + content


def _behind_a_tag(content: bytes, chance: random.Random) -> bytes:
    """An ID3 tag that promises more than it holds, or less."""
    size = chance.choice([0, 10, 100, (1 << 28) - 1])
    syncsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + syncsafe + b"TIT2" + chance.randbytes(90) + content


def _with_a_long_tail(content: bytes, chance: random.Random) -> bytes:
    return content + chance.choice([b"\x00", b"\xff", b"RIFF", b"OggS"]) * 1_000_000


def _of_other_magic(content: bytes, chance: random.Random) -> bytes:
    magics = [b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3\x04", b".snd", b"caff"]
    magics += [b"#!AMR\n", b"\x1a\x45\xdf\xa3", b"\xff\xf1", b"#EXTM3U\n", b"ffconcat"]
    return chance.choice(magics) + content[4:]


CHANGES: dict[str, Change] = {
    change.__name__.removeprefix("_"): change
    for change in (
        _truncated,
        _headless,
        _flipped,
        _flipped_header,
        _lying_header,
        _overwritten,
        _missing_middle,
        _inserted,
        _repeated,
        _spliced,
        _behind_another,
        _behind_a_tag,
        _with_a_long_tail,
        _of_other_magic,
    )
}
