"""Encoders that stay open: samples in as they are made, bytes out as soon as there are any.

An encoder serves one answer. However its samples are cut into calls, the joined bytes are the same,
on every run: they are encoded in frames of a fixed length, and hold no dates and no numbers drawn
by chance.

A stream cannot go back and write its length where a file has it. FLAC and WAV say "unknown", and
readers take all that comes; Opus ends with its exact length; pcm has no header. MP3 and AAC have no
place for what their encoders put before and after the sound: a decoder gives that silence too, at
most MP3_PADDING and AAC_PADDING samples in all. An answer without samples has at most a header.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from threading import get_native_id
from types import MappingProxyType
from typing import Protocol, cast

import av
import numpy as np
import soundfile as sf
import soxr
from av.codec.context import Flags

from worker.audio.formats import PCM_RATE, StreamFormat
from worker.audio.pcm import to_pcm16
from worker.audio.waveform import Audio, Samples, check_finite

MP3_PADDING = 3 * 1152
AAC_PADDING = 3 * 1024

_UNKNOWN = 0xFFFFFFFF  # bytes, in the header of a WAV that is not complete yet; as ffmpeg's has it


class Encoder(Protocol):
    """Turns the samples of one answer into bytes. One thread at a time.

    One that is dropped before its end gives back all that it holds.
    """

    def encode(self, samples: Samples) -> bytes:
        """Take the next samples, float32 [n], n may be 0; give the bytes that are ready.

        Raises SynthesisError for values that are not finite.
        """
        ...

    def finish(self) -> bytes:
        """Give the rest; the encoder is over."""
        ...


def open_encoder(format: StreamFormat, sample_rate: int) -> Encoder:  # noqa: A002 - the API's word
    """Open an encoder of one channel of sound at `sample_rate` Hz."""
    if format == "wav":
        return _Wav(sample_rate)
    if format == "pcm":
        return _at_rate(PCM_RATE, sample_rate, _Pcm())
    if format == "flac":
        return _Flac(sample_rate)
    codec = _CODECS[format]
    rate = codec.rate_for(sample_rate)
    return _at_rate(rate, sample_rate, _Coded(codec, rate))


def _at_rate(rate: int, sample_rate: int, encoder: Encoder) -> Encoder:
    return encoder if rate == sample_rate else _Resampled(encoder, sample_rate, rate)


@dataclass(frozen=True)
class _Codec:
    """One of ffmpeg's encoders, and the container that its packets go into."""

    name: str
    container: str
    sample_format: str
    rates: tuple[int, ...]  # Hz, ascending
    bit_rate: int
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)

    def rate_for(self, sample_rate: int) -> int:
        """The rate to encode at: the given one, or else the next above that the codec takes."""
        return next((rate for rate in self.rates if rate >= sample_rate), self.rates[-1])


_CODECS: Mapping[StreamFormat, _Codec] = MappingProxyType(
    {
        "mp3": _Codec(
            "libmp3lame",
            "mp3",
            "fltp",
            rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
            bit_rate=64_000,
            options={"reservoir": "0"},  # which would keep a frame until those after it are coded
            # Without ID3 tags, and without a Xing header, whose counts come last.
            container_options={"id3v2_version": "0", "write_xing": "0"},
        ),
        "opus": _Codec(
            "libopus",
            "ogg",
            "flt",
            rates=(8_000, 12_000, 16_000, 24_000, 48_000),
            bit_rate=48_000,
            options={"compression_level": "5"},  # of 10: for speech, half of the work of 10
            container_options={"page_duration": "20000"},  # us: each packet leaves by itself
        ),
        "aac": _Codec(
            "aac",
            "adts",
            "fltp",
            # It looks a frame ahead, and a frame has 1024 samples: 64 ms at 16 kHz, 21 at 48.
            rates=(48_000,),
            bit_rate=64_000,
            options={"aac_coder": "fast"},
        ),
    }
)


class _Bytes:
    """What a container writes to, and what was written since it was last taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, content: bytes) -> int:
        self._written += content
        return len(content)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _Coded:
    """An encoder of ffmpeg's, fed in frames of its own length."""

    def __init__(self, codec: _Codec, sample_rate: int) -> None:
        self._bytes = _Bytes()
        self._container = av.open(
            self._bytes,
            "w",
            format=codec.container,
            # Bit exact: without the names and versions of libraries, and with a fixed Ogg serial.
            container_options={
                **codec.container_options,
                "flush_packets": "1",
                "fflags": "+bitexact",
            },
        )
        self._stream = cast(
            "av.AudioStream",
            self._container.add_stream(codec.name, rate=sample_rate, options=dict(codec.options)),
        )
        context = self._stream.codec_context
        context.layout = "mono"
        context.format = codec.sample_format
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.bit_rate = codec.bit_rate
        self._container.start_encoding()
        self._sample_format = codec.sample_format
        self._time_base = Fraction(1, sample_rate)
        self._frame = context.frame_size  # samples
        self._waiting: Samples = np.zeros(0, np.float32)
        self._sent = 0  # samples

    def encode(self, samples: Samples) -> bytes:
        check_finite(Audio(samples, self._time_base.denominator))
        waiting = np.concatenate([self._waiting, samples])
        whole = len(waiting) - len(waiting) % self._frame
        for start in range(0, whole, self._frame):
            self._send(waiting[start : start + self._frame])
        self._waiting = waiting[whole:]
        return self._bytes.take()

    def finish(self) -> bytes:
        if len(self._waiting):
            self._send(self._waiting)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._bytes.take()

    def __del__(self) -> None:
        # The container and its stream hold each other: else they would wait for the collector.
        self._container.close()

    def _send(self, samples: Samples) -> None:
        """Encode one frame; only the last may be short."""
        frame = av.AudioFrame.from_ndarray(
            samples[np.newaxis], format=self._sample_format, layout="mono"
        )
        frame.sample_rate = self._time_base.denominator
        frame.time_base = self._time_base
        frame.pts = self._sent
        first, self._sent = not self._sent, self._sent + len(samples)
        # PyAV sends frames through a filter graph of its own, made with the first one, which has
        # as many threads as its maker has processors.
        with _one_processor() if first else nullcontext():
            packets = self._stream.encode(frame)
        self._container.mux(packets)


@contextmanager
def _one_processor() -> Iterator[None]:
    """Let this thread have one processor alone, for a moment."""
    before = os.sched_getaffinity(0)
    one = sorted(before)[get_native_id() % len(before)]
    os.sched_setaffinity(0, {one})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Flac:
    """libsndfile's FLAC: ffmpeg's takes 7 MB for each stream that is open.

    At the least compression its blocks have 1152 samples.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._bytes = _Unseekable()
        self._sink = sf.SoundFile(
            self._bytes, "w", sample_rate, 1, "PCM_16", format="FLAC", compression_level=0
        )

    def encode(self, samples: Samples) -> bytes:
        check_finite(Audio(samples, self._sample_rate))
        self._sink.write(to_pcm16(samples))
        return self._bytes.take()

    def finish(self) -> bytes:
        self._sink.close()
        return self._bytes.take()


class _Unseekable(_Bytes):
    """Lets libsndfile go back, and drops what it writes there: those bytes have left."""

    def __init__(self) -> None:
        super().__init__()
        self._place = self._end = 0

    def write(self, content: bytes) -> int:
        if self._place == self._end:
            super().write(bytes(content))
            self._end += len(content)
        self._place += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}
        self._place = base[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, _length: int) -> bytes:
        return b""


class _Pcm:
    """16 bits, little endian, nothing else."""

    def encode(self, samples: Samples) -> bytes:
        check_finite(Audio(samples, PCM_RATE))
        return to_pcm16(samples).astype("<i2").tobytes()

    def finish(self) -> bytes:
        return b""


class _Wav:
    """pcm at the rate that it has, behind a RIFF header without lengths."""

    def __init__(self, sample_rate: int) -> None:
        # RIFF; then the chunk "fmt ": PCM, one channel, bytes a second, bytes a sample, bits.
        self._header = struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + struct.pack(
            "<4sIHHIIHH4sI",
            *(b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16),
            *(b"data", _UNKNOWN),
        )
        self._pcm = _Pcm()

    def encode(self, samples: Samples) -> bytes:
        content = self._pcm.encode(samples)
        header, self._header = self._header, b""
        return header + content

    def finish(self) -> bytes:
        return self._header


class _Resampled:
    """An encoder behind a resampler: a stream too, of round(n * to / from) samples."""

    def __init__(self, encoder: Encoder, sample_rate: int, rate: int) -> None:
        self._encoder = encoder
        self._sample_rate = sample_rate
        self._resampler = soxr.ResampleStream(sample_rate, rate, 1, dtype="float32", quality="HQ")

    def encode(self, samples: Samples) -> bytes:
        check_finite(Audio(samples, self._sample_rate))  # before the resampler holds it
        return self._encoder.encode(self._resampler.resample_chunk(samples))

    def finish(self) -> bytes:
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return self._encoder.encode(rest) + self._encoder.finish()
