"""Audio files of strangers, which are checked and decoded, and of this process alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import soundfile as sf

from worker.audio.waveform import Audio, Samples, amplitude_to_db, window_rms
from worker.errors import StorageError, VoiceError

REFERENCE_SECONDS_MIN = 1.0
REFERENCE_SECONDS_MAX = 60.0
REFERENCE_SILENCE_DBFS = -60.0  # loudest window of a reference that counts as silent
SAMPLE_RATE_MIN = 8_000
SAMPLE_RATE_MAX = 192_000
CHANNELS_MAX = 8

_BLOCK_FRAMES = 4_096
_SHORTFALL = 0.1  # an MP3 header without an exact count estimates; more missing than this is a cut
_STREAMED_WAV_BYTES = 0x7FFF_0000  # recorders that stream promise about this much or twice it


def read(path: Path, *, longest: float = REFERENCE_SECONDS_MAX, field: str | None = None) -> Audio:
    """Decode the first channel of an audio file, as upstream's load_audio does, at its own rate.

    Every format of libsndfile is read, whatever the file's name says. At most `longest` seconds
    are ever decoded: a small FLAC can hold hours. A WAV whose header was never completed, as
    streaming recorders leave it, is read to its end; so is an OGG that was cut.

    Raises VoiceError for what is not audio, is empty, damaged, cut short or longer.
    """
    try:
        # By descriptor: soundfile would take an ending such as .raw for a headerless file.
        with path.open("rb") as file, sf.SoundFile(file.fileno(), closefd=False) as decoder:
            _check_header(decoder, longest, field)
            return Audio(_decode(decoder, longest, field), decoder.samplerate)
    except sf.LibsndfileError as error:
        raise VoiceError(
            f"the reference audio cannot be decoded ({_reason(error)}); "
            "use an undamaged WAV, FLAC, MP3 or OGG file",
            field=field,
        ) from None


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
    loudest = amplitude_to_db(window_rms(audio).max())
    if loudest < REFERENCE_SILENCE_DBFS:
        raise VoiceError(
            f"the reference audio is silent: its loudest moment has {loudest:.0f} dBFS, "
            f"at least {REFERENCE_SILENCE_DBFS:g} is needed",
            field=field,
        )


def write_samples(audio: Audio, path: Path) -> None:
    """Write a wav of float32 that holds the very samples, for another reader of this process.

    Raises StorageError where it cannot be written.
    """
    try:
        with sf.SoundFile(path, "w", audio.sample_rate, 1, "FLOAT", format="WAV") as sink:
            sink.write(audio.samples)
    except (OSError, sf.LibsndfileError) as error:
        raise StorageError(f"the reference could not be kept: {_reason(error)}") from None


def _check_header(decoder: sf.SoundFile, longest: float, field: str | None) -> None:
    """Refuse by the header alone what must not be decoded."""
    rate, channels, frames = decoder.samplerate, decoder.channels, decoder.frames
    if not SAMPLE_RATE_MIN <= rate <= SAMPLE_RATE_MAX:
        raise VoiceError(
            f"the reference audio has a sample rate of {rate} Hz; "
            f"use {SAMPLE_RATE_MIN} to {SAMPLE_RATE_MAX}",
            field=field,
        )
    if channels > CHANNELS_MAX:
        raise VoiceError(
            f"the reference audio has {channels} channels; use at most {CHANNELS_MAX}", field=field
        )
    if _frames_known(frames) and frames > longest * rate:
        raise _too_long(f"{frames / rate:.2f} s long", longest, field)
    # libsndfile corrects the length of a WAV that was cut and says so only in its log.
    said = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", decoder.extra_info, re.MULTILINE)
    if said and int(said[2]) < int(said[1]) < _STREAMED_WAV_BYTES:
        raise _cut_short(int(said[2]), int(said[1]), "bytes", field)


def _decode(decoder: sf.SoundFile, longest: float, field: str | None) -> Samples:
    """First channel, float32 [n], never more than `longest` seconds and a block of it."""
    promised = decoder.frames
    blocks: list[Samples] = []
    total = 0
    while True:
        block = decoder.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block[:, 0].copy())
        total += len(block)
        if total > longest * decoder.samplerate:
            raise _too_long("too long", longest, field)
    if total == 0:
        raise VoiceError("the reference audio is empty: it has no samples", field=field)
    if _frames_known(promised) and total < (1 - _SHORTFALL) * promised:
        raise _cut_short(total, promised, "samples", field)
    return np.concatenate(blocks)


def _frames_known(frames: int) -> bool:
    """Whether the header gave a length; libsndfile answers SF_COUNT_MAX where it did not."""
    return frames < 2**62


def _too_long(found: str, longest: float, field: str | None) -> VoiceError:
    return VoiceError(f"the reference audio is {found}; use at most {longest:g} s", field=field)


def _cut_short(found: int, promised: int, unit: str, field: str | None) -> VoiceError:
    return VoiceError(
        f"the reference audio is cut short: {found} of {promised} {unit} are there; "
        "upload it again",
        field=field,
    )


def _reason(error: Exception) -> str:
    """Say what went wrong without the path that the exception's own text holds."""
    if isinstance(error, sf.LibsndfileError):
        return str(error.error_string).rstrip(".")
    return getattr(error, "strerror", None) or type(error).__name__
