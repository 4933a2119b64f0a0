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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
import soundfile as sf
import soxr

from worker.audio.coded import Codec, CodedSound
from worker.audio.files import NO_TAGS, tell
from worker.audio.formats import PCM_RATE, SAMPLE_RATES, StreamFormat
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


def open_encoder(
    format: StreamFormat,  # noqa: A002 - the API's word
    sample_rate: int,
    *,
    rate: int | None = None,
    bit_rate: int | None = None,
    tags: Mapping[str, str] = NO_TAGS,
) -> Encoder:
    """Open an encoder of one channel of sound that comes at `sample_rate` Hz.

    It leaves at `rate` Hz; where none is given, at that of the sound or the next above that the
    format takes, and pcm at PCM_RATE. `bit_rate` is in kbit/s, `tags` are words by their names.
    `formats` says what a format can have of them; tags that it cannot have are left out.
    """
    if format == "pcm":
        rate = rate or PCM_RATE
        return _at_rate(rate, sample_rate, _Pcm(rate))
    if format in {"wav", "flac"}:
        rate = rate or sample_rate
        return _at_rate(rate, sample_rate, _Wav(rate) if format == "wav" else _Flac(rate, tags))
    rate = rate or _next_above(sample_rate, _RATES[format])
    bits = None if bit_rate is None else 1_000 * bit_rate
    return _at_rate(rate, sample_rate, _Coded(_CODECS[format], rate, bits, tags))


def _next_above(sample_rate: int, rates: Sequence[int]) -> int:
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def _at_rate(rate: int, sample_rate: int, encoder: Encoder) -> Encoder:
    return encoder if rate == sample_rate else _Resampled(encoder, sample_rate, rate)


# Hz, ascending, that a stream is coded at.
_RATES: Mapping[StreamFormat, Sequence[int]] = MappingProxyType(
    {
        "mp3": SAMPLE_RATES["mp3"],
        "opus": SAMPLE_RATES["opus"],
        # It looks a frame ahead, and a frame has 1024 samples: 64 ms at 16 kHz, 21 at 48.
        "aac": (48_000,),
    }
)
_CODECS: Mapping[StreamFormat, Codec] = MappingProxyType(
    {
        "mp3": Codec(
            "libmp3lame",
            "mp3",
            "fltp",
            bit_rate=64_000,
            options={"reservoir": "0"},  # which would keep a frame until those after it are coded
            # Without an empty ID3 tag, and without a Xing header, whose counts come last.
            container_options={"id3v2_version": "0", "write_xing": "0", "flush_packets": "1"},
        ),
        "opus": Codec(
            "libopus",
            "ogg",
            "flt",
            bit_rate=48_000,
            options={"compression_level": "5"},  # of 10: for speech, half of the work of 10
            # Each packet leaves by itself; in us.
            container_options={"page_duration": "20000", "flush_packets": "1"},
        ),
        "aac": Codec(
            "aac",
            "adts",
            "fltp",
            bit_rate=64_000,
            options={"aac_coder": "fast"},
            container_options={"flush_packets": "1"},
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
    """An encoder of ffmpeg's, whose bytes are taken as they come."""

    def __init__(
        self, codec: Codec, sample_rate: int, bit_rate: int | None, tags: Mapping[str, str]
    ) -> None:
        self._bytes = _Bytes()
        if tags and codec.container == "mp3":
            with_tags = {**codec.container_options, "id3v2_version": "3"}
            codec = replace(codec, container_options=with_tags)
        self._sound = CodedSound(self._bytes, codec, sample_rate, bit_rate=bit_rate, tags=tags)

    def encode(self, samples: Samples) -> bytes:
        self._sound.add(samples)
        return self._bytes.take()

    def finish(self) -> bytes:
        self._sound.finish()
        return self._bytes.take()


class _Flac:
    """libsndfile's FLAC: ffmpeg's takes 7 MB for each stream that is open.

    At the least compression its blocks have 1152 samples.
    """

    def __init__(self, sample_rate: int, tags: Mapping[str, str]) -> None:
        self._sample_rate = sample_rate
        self._bytes = _Unseekable()
        self._sink = sf.SoundFile(
            self._bytes, "w", sample_rate, 1, "PCM_16", format="FLAC", compression_level=0
        )
        tell(self._sink, tags)

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

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    def encode(self, samples: Samples) -> bytes:
        check_finite(Audio(samples, self._sample_rate))
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
        self._pcm = _Pcm(sample_rate)

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
