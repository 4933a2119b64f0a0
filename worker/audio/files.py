"""Audio files of our own: written block by block, and there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import soundfile as sf

from worker.atomic_write import replacing
from worker.audio.formats import Format
from worker.audio.ogg_pages import set_serial
from worker.audio.pcm import to_pcm16
from worker.audio.waveform import Audio, Samples, check_finite
from worker.errors import StorageError, SynthesisError, WorkerError

if TYPE_CHECKING:
    from worker.audio.coded import Codec

NO_TAGS: Mapping[str, str] = MappingProxyType({})

_BLOCK_FRAMES = 4_096
_ENCODINGS: Mapping[Format, tuple[str, str]] = MappingProxyType(  # of libsndfile
    {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
)


def write(audio: Audio, path: Path, format: Format) -> None:  # noqa: A002 - the API's word
    """Write audio that is in memory, as `write_blocks` does."""
    write_blocks([audio.samples], audio.sample_rate, path, format)


def write_blocks(
    blocks: Iterable[Samples],
    sample_rate: int,
    path: Path,
    format: Format,  # noqa: A002 - the API's word
    *,
    bit_rate: int | None = None,
    tags: Mapping[str, str] = NO_TAGS,
) -> None:
    """Write audio, given block by block, to `path`, which appears whole or not at all.

    wav, flac and pcm hold 16 bits, rounded and not dithered: the noise of rounding is below that of
    speech, and gaps stay silent. Every format but pcm says its length, to the sample, and players
    that heed it give no more: mp3 in a LAME header, opus by its pre-skip and last granule, aac by
    an edit list. The same audio gives the same bytes, however it is cut into blocks.

    `bit_rate` is in kbit/s, for formats that have one (`formats.bit_rates`). `tags` are words by
    their names in `audio.tags`; pcm has no place for them.

    Raises SynthesisError for audio that is empty or not finite, StorageError where it cannot
    be written.
    """
    written = 0
    try:
        with ExitStack() as stack:
            part = stack.enter_context(replacing(path))
            file = stack.enter_context(_File(part))
            sink = _open(file, part, format, sample_rate, bit_rate, tags)
            stack.callback(sink.close)
            for block in blocks:
                check_finite(Audio(block, sample_rate))
                written += len(block)
                sink.add(block)
                file.check()
            if not written:
                raise SynthesisError("there is no audio to write")
            sink.finish()
    except (OSError, sf.LibsndfileError) as error:
        raise StorageError(
            f"the audio could not be written as {format}: {_reason(error)}"
        ) from None


class _Sink(Protocol):
    """A file that is being written."""

    def add(self, samples: Samples) -> None:
        """Take the next samples, float32 [n]."""
        ...

    def finish(self) -> None:
        """Write what is left, and what the header says of the whole."""
        ...

    def close(self) -> None:
        """Give back what it holds; before its end too, where what was written is thrown away."""
        ...


class _File:
    """A file that a library writes to, and that keeps what the disk says to it.

    libsndfile itself knows no more than "System error", and says nothing at all where the end of
    a flac or ogg does not fit.
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
        # The library's own error only follows from it.
        if not isinstance(error, WorkerError):
            self.check()

    def check(self) -> None:
        """Raise the OSError of what was not written, if there is one."""
        if self._error is not None:
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


def _open(
    file: _File,
    path: Path,
    format: Format,  # noqa: A002
    sample_rate: int,
    bit_rate: int | None,
    tags: Mapping[str, str],
) -> _Sink:
    if format == "pcm":
        return _Raw(file)
    if format in _ENCODINGS:
        return _Sound(file, format, sample_rate, tags)
    # ffmpeg's libraries are large: a worker that writes no such file never reads them.
    from worker.audio.coded import CodedSound  # noqa: PLC0415

    return CodedSound(
        file,
        _codec(format, sample_rate, tagged=bool(tags)),
        sample_rate,
        bit_rate=None if bit_rate is None else 1_000 * bit_rate,
        tags=tags,
        read_again=lambda: path.open("rb"),
    )


def _codec(format: Format, sample_rate: int, *, tagged: bool) -> Codec:  # noqa: A002
    """How ffmpeg writes a whole file of the format."""
    from worker.audio.coded import Codec  # noqa: PLC0415

    if format == "mp3":
        # LAME's own quality 4, with a bit rate that follows the speech: 53 kbit/s at 16 kHz.
        quality = {"flags": "+qscale+bitexact", "global_quality": str(4 * 118)}
        # ID3's version 2.3 is the one that every player reads; 0 is none.
        tags = {"id3v2_version": "3" if tagged else "0"}
        return Codec("libmp3lame", "mp3", "fltp", None, quality, tags)
    if format == "opus":
        return Codec("libopus", "ogg", "flt", 48_000)
    # The header before the sound, so that a player can begin at once, and in it the length in
    # samples, not in milliseconds.
    header = {"movflags": "+faststart", "movie_timescale": str(sample_rate)}
    return Codec("aac", "ipod", "fltp", 64_000, {}, header)


class _Sound:
    """A file of libsndfile's."""

    def __init__(
        self,
        file: _File,
        format: Format,  # noqa: A002
        sample_rate: int,
        tags: Mapping[str, str],
    ) -> None:
        container, self._encoding = _ENCODINGS[format]
        self._file = file
        self._waiting: Samples = np.zeros(0, np.float32)
        self._sink = sf.SoundFile(file, "w", sample_rate, 1, self._encoding, format=container)
        # What is told before the samples stands before them. In wav it comes after: many programs
        # take all that follows on 44 bytes for sound.
        self._tags = tags if format == "wav" else NO_TAGS
        if format != "wav":
            tell(self._sink, tags)

    def add(self, samples: Samples) -> None:
        """Take the next samples."""
        # In parts: libvorbis puts all that it is given at once on the C stack. Of one length: what
        # it makes depends on that.
        waiting = np.concatenate([self._waiting, samples])
        whole = len(waiting) - len(waiting) % _BLOCK_FRAMES
        for start in range(0, whole, _BLOCK_FRAMES):
            self._write(waiting[start : start + _BLOCK_FRAMES])
        self._waiting = waiting[whole:]

    def _write(self, samples: Samples) -> None:
        self._sink.write(to_pcm16(samples) if self._encoding == "PCM_16" else samples)

    def finish(self) -> None:
        """Write what is left."""
        self._write(self._waiting)
        tell(self._sink, self._tags)
        self._sink.close()
        self._file.check()
        if self._encoding == "VORBIS":
            set_serial(self._file)

    def close(self) -> None:
        """Give back what it holds."""
        with suppress(sf.LibsndfileError):
            self._sink.close()


def tell(sink: sf.SoundFile, tags: Mapping[str, str]) -> None:
    """Have libsndfile write tags: before the samples, where they are not there yet."""
    for name, words in tags.items():
        setattr(sink, "tracknumber" if name == "track" else name, words)


class _Raw:
    """16 bits, little endian, nothing else."""

    def __init__(self, file: _File) -> None:
        self._file = file

    def add(self, samples: Samples) -> None:
        """Take the next samples."""
        self._file.write(to_pcm16(samples).astype("<i2").tobytes())

    def finish(self) -> None:
        """Nothing is left."""

    def close(self) -> None:
        """It holds nothing."""


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
