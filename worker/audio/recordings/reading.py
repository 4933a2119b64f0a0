"""Reads a stranger's recording: decoded to its end within bounds, then judged; one channel of it.

libsndfile goes first, for upstream reads its references with it, and the samples are to be equal.
ffmpeg reads what that does not know, and is asked as well where libsndfile trusts a length:

| | |
| --- | --- |
| WAV, RF64 | libsndfile, behind a header that says what is there |
| AIFF, CAF, AU, W64 | libsndfile; their lengths are counted |
| FLAC | libsndfile; ffmpeg where it has no length, is cut, or files were joined |
| OGG | both: libsndfile stops where the last page says, and before a joined file |
| MP3 | both: libsndfile stops at an estimate, and leaves out frames that are right |
| all else | ffmpeg |
"""

from __future__ import annotations

import io
import mmap
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf

from worker.audio.recordings import (
    by_ffmpeg,
    by_libsndfile,
    byte_promises,
    channels,
    mpeg_header,
    wav_header,
)
from worker.audio.recordings.take import Bounds, Take, UndecodableError
from worker.audio.waveform import Audio, Samples, amplitude_to_db, window_rms
from worker.cancellation import Cancellation
from worker.errors import VoiceError

REFERENCE_SECONDS_MIN = 1.0
REFERENCE_SECONDS_MAX = 60.0
REFERENCE_SILENCE_DBFS = -60.0  # loudest window of a reference that counts as silent

_MP3_MISSING = 0.1  # share of what its encoder counted; editors cut a little and leave the count
_ROUNDING = 1e-5  # of full scale, between two decoders that hear the same
_FRAMES_APART = 2  # at its ends the two decoders leave out more or less of the coder's delay
_APE_HEADER_BYTES = 32  # APEv2's; its length counts all behind it
_FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # and the first block, of 34 bytes


@dataclass(frozen=True)
class Recording:
    """What is heard of a recording, and what its sender should know of that."""

    audio: Audio
    warnings: tuple[str, ...] = ()


def read(
    path: Path,
    *,
    longest: float = REFERENCE_SECONDS_MAX,
    field: str | None = None,
    cancellation: Cancellation | None = None,
) -> Recording:
    """Decode one channel of a recording, at its own rate; `channels` says which.

    The file's name means nothing. At most `longest` seconds are ever decoded, and a little: a small
    file can hold hours. A recording of one channel has the samples that upstream's load_audio
    reads, where that reads it whole.

    Raises VoiceError for what is no recording, is empty, damaged, cut short or longer.
    """
    bounds = Bounds.starting_now(longest, field, cancellation)
    with _opened(path) as file:
        take = _decode(path, file, Take(bounds))
        if take.total == 0:
            raise bounds.fault("is empty: it has no samples")
        if take.levels is None:
            return Recording(Audio(take.samples(), take.sample_rate))
        heard = channels.choose(take.levels.powers())
        if heard.channel:
            take = _decode(path, file, Take(bounds, heard.channel))
    warnings = () if heard.warning is None else (heard.warning,)
    return Recording(Audio(take.samples(), take.sample_rate), warnings)


def check_reference(audio: Audio, *, field: str | None = None) -> None:
    """Refuse as a reference voice what is too short, too long, silent or not finite.

    Raises VoiceError.
    """
    if not REFERENCE_SECONDS_MIN <= audio.duration <= REFERENCE_SECONDS_MAX:
        raise VoiceError(
            f"the reference audio is {audio.duration:.2f} s long; use "
            f"{REFERENCE_SECONDS_MIN:g} to {REFERENCE_SECONDS_MAX:g} s of clear speech",
            field=field,
        )
    if not np.isfinite(audio.samples).all():
        raise VoiceError("the reference audio holds values that are not numbers", field=field)
    offset = np.float32(audio.samples.mean(dtype=np.float64))  # of a bad cable: no sound
    sound = Audio(audio.samples - offset, audio.sample_rate)
    loudest = amplitude_to_db(window_rms(sound).max())
    if loudest < REFERENCE_SILENCE_DBFS:
        raise VoiceError(
            f"the reference audio is silent: its loudest moment has {loudest:.0f} dBFS, "
            f"at least {REFERENCE_SILENCE_DBFS:g} is needed",
            field=field,
        )


def _opened(path: Path) -> BinaryIO:
    """The file, from where its sound begins: no decoder knows an APE tag that is put in front."""
    file = path.open("rb", buffering=0)
    head = file.read(_APE_HEADER_BYTES)
    if not head.startswith(b"APETAGEX"):
        return file
    with file:
        file.seek(int.from_bytes(head[12:16], "little"), os.SEEK_CUR)
        return io.BytesIO(file.read())


def _decode(path: Path, file: BinaryIO, take: Take) -> Take:
    """Decode the file into `take`, or into another like it; gives the one that has all of it."""
    byte_promises.check(file, take.bounds)
    try:
        wavs = wav_header.mended(path, take.bounds)
        if wavs is not None:
            for wav in wavs:
                by_libsndfile.decode(wav, take)
            return take
        kind = by_libsndfile.decode(file, take)
    except sf.LibsndfileError:
        take.bounds.check()
        return _by_ffmpeg(file, take.again())
    if kind.is_mpeg:
        take = _whole(file, take)
        _check_mp3(file, take)
    elif kind.container == "OGG":
        with suppress(UndecodableError):  # ffmpeg lacks the patience of libsndfile here
            return _whole(file, take)
    elif kind.container == "FLAC" and _joined(path):
        return _by_ffmpeg(file, take.again())
    return take


def _by_ffmpeg(file: BinaryIO, take: Take) -> Take:
    found = by_ffmpeg.decode(file, take)
    if found.container == "mp3":
        _check_mp3(file, take)
    elif found.promised is not None and take.total < found.promised:
        raise take.bounds.cut_short(take.total, found.promised, "samples")
    return take


def _whole(file: BinaryIO, take: Take) -> Take:
    """All of a file of which libsndfile may have read a part: its samples, where ffmpeg hears them.

    Else ffmpeg's, if only since libsndfile's MP3 has holes: of frames that are right it calls some
    wrong, and leaves them out.
    """
    other = take.again()
    found = by_ffmpeg.decode(file, other)
    whole = take.total + _FRAMES_APART * found.frame >= other.total
    return take if whole and _alike(take.samples(), other.samples()) else other


def _alike(one: Samples, other: Samples) -> bool:
    """Whether two decoders gave the same, but for their roundings and the end."""
    both = min(len(one), len(other))
    return float(np.abs(one[:both] - other[:both]).max(initial=0)) < _ROUNDING


def _check_mp3(file: BinaryIO, take: Take) -> None:
    """Raise VoiceError for an MP3 of far less than its encoder counted."""
    promised = mpeg_header.promised_samples(file)
    if promised is not None and take.total < (1 - _MP3_MISSING) * promised:
        there, whole = (f"{samples / take.sample_rate:.2f}" for samples in (take.total, promised))
        raise take.bounds.cut_short(there, whole, "s")


def _joined(path: Path) -> bool:
    """Whether another FLAC follows in the file, which libsndfile does not go on to."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(start, len(start)) >= 0 for start in _FLAC_STARTS)
