"""Decodes by libsndfile, which upstream reads its references with: WAV, FLAC, MP3, OGG and kin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import soundfile as sf

from worker.audio.recordings.allowed import SNDFILE_CONTAINERS
from worker.audio.recordings.take import Take
from worker.audio.recordings.watched import Watched

_BLOCK_FRAMES = 4_096
_UNKNOWN_FRAMES = 2**62  # libsndfile says SF_COUNT_MAX, where a header has no length


@dataclass(frozen=True)
class Kind:
    """libsndfile's names of what it read."""

    container: str
    subtype: str

    @property
    def is_mpeg(self) -> bool:
        """Whether it is an MP3, or one in a WAV."""
        return self.subtype.startswith("MPEG")

    @property
    def counted(self) -> bool:
        """Whether the length is the file's own, and no estimate or what the last page says."""
        return self.container != "OGG" and not self.is_mpeg


def decode(file: BinaryIO, take: Take) -> Kind:
    """Decode all of the file into `take`.

    Raises LibsndfileError for what it cannot read, VoiceError for what is out of bounds or cut.
    """
    bounds = take.bounds
    with sf.SoundFile(Watched(file, bounds)) as decoder:
        kind = Kind(decoder.format, decoder.subtype)
        if kind.container not in SNDFILE_CONTAINERS:
            raise bounds.undecodable(f"it is {decoder.format_info}, which is not taken")
        take.open(decoder.samplerate, decoder.channels)
        # FLAC's header may say what it likes: it is decoded first.
        if kind.counted and kind.container != "FLAC":
            _check_length(decoder, take)
        before = take.total
        while len(block := decoder.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            take.add(block)
        found, promised = take.total - before, decoder.frames
    bounds.check()  # what is read after the time is up looks like the file's end
    if kind.counted and found < promised < _UNKNOWN_FRAMES:
        raise bounds.cut_short(found, promised, "samples")
    return kind


def _check_length(decoder: sf.SoundFile, take: Take) -> None:
    """Refuse before decoding what has too many bytes of sound."""
    if take.bounds.longest * decoder.samplerate < decoder.frames < _UNKNOWN_FRAMES:
        seconds = decoder.frames / decoder.samplerate
        raise take.bounds.too_long(f"{seconds:.2f} s long")
