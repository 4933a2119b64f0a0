"""Audio files: a stranger's is checked and decoded, a result is written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile as sf

from worker.atomic_write import replacing
from worker.audio.formats import ENCODINGS, Format
from worker.audio.pcm import to_pcm16
from worker.audio.waveform import Audio, Samples, amplitude_to_db, check_finite, window_rms
from worker.errors import StorageError, SynthesisError, VoiceError, WorkerError

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


def write(audio: Audio, path: Path, format: Format) -> None:  # noqa: A002 - the API's word
    """Write audio that is in memory, as `write_blocks` does."""
    write_blocks([audio.samples], audio.sample_rate, path, format)


def write_blocks(
    blocks: Iterable[Samples],
    sample_rate: int,
    path: Path,
    format: Format,  # noqa: A002 - the API's word
) -> None:
    """Write audio, given block by block, to `path`, which appears whole or not at all.

    wav and flac hold 16 bits, rounded and not dithered: the noise of rounding is below that of
    speech, and gaps stay silent. The same audio gives the same bytes, however it is cut into
    blocks, but for ogg, where libsndfile draws a stream number from the clock.

    Raises SynthesisError for audio that is empty or not finite, StorageError where it cannot
    be written.
    """
    container, encoding = ENCODINGS[format]
    written = 0
    try:
        with replacing(path) as part, _File(part) as file:
            with sf.SoundFile(file, "w", sample_rate, 1, encoding, format=container) as sink:
                for block in blocks:
                    check_finite(Audio(block, sample_rate))
                    written += len(block)
                    # In parts: libvorbis puts all that it is given at once on the C stack.
                    for start in range(0, len(block), _BLOCK_FRAMES):
                        sink.write(_encoded(block[start : start + _BLOCK_FRAMES], encoding))
            if not written:
                raise SynthesisError("there is no audio to write")
    except (OSError, sf.LibsndfileError) as error:
        raise StorageError(
            f"the audio could not be written as {format}: {_reason(error)}"
        ) from None


class _File:
    """A file that libsndfile writes to, and that keeps what the disk says to it.

    libsndfile itself knows no more than "System error", and says nothing at all where the end of
    an mp3, flac or ogg does not fit.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self.seek, self.tell, self.read = self._file.seek, self._file.tell, self._file.read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Close the file. Raises OSError where something of it was not written."""
        try:
            self._file.close()
        except OSError as late:
            self._error = self._error or late
        # libsndfile's own error, and soundfile's, only follow from it.
        if self._error is not None and not isinstance(error, WorkerError):
            raise self._error

    def write(self, content: bytes) -> int:
        """Write all of it or, from the first failure on, nothing."""
        try:
            rest = memoryview(content)
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return 0 if self._error else len(content)


def _encoded(samples: Samples, encoding: str) -> Samples | npt.NDArray[np.int16]:
    return to_pcm16(samples) if encoding == "PCM_16" else samples


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
