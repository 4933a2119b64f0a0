"""Audio files that the worker writes: whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile as sf

from worker.atomic_write import replacing
from worker.audio.formats import ENCODINGS, Format
from worker.audio.pcm import to_pcm16
from worker.audio.waveform import Audio, Samples, check_finite
from worker.errors import StorageError, SynthesisError, WorkerError

_BLOCK_FRAMES = 4_096


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


def _reason(error: Exception) -> str:
    """Say what went wrong without the path that the exception's own text holds."""
    if isinstance(error, sf.LibsndfileError):
        return str(error.error_string).rstrip(".")
    return getattr(error, "strerror", None) or type(error).__name__
