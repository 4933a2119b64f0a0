"""Formats of audio, as files and as streams: their names, content types, rates and bit rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

# Vorbis in ogg, Opus in Ogg, AAC in MP4 (aac and m4a are one thing), and samples without a header.
Format = Literal["wav", "flac", "mp3", "ogg", "opus", "aac", "m4a", "pcm"]
CONTENT_TYPES: Mapping[Format, str] = MappingProxyType(
    {
        "wav": "audio/wav",
        "flac": "audio/flac",
        "mp3": "audio/mpeg",
        "ogg": "audio/ogg",
        "opus": "audio/ogg; codecs=opus",
        "aac": "audio/mp4",
        "m4a": "audio/mp4",
        "pcm": "audio/pcm",
    }
)
# How the name of such a file ends. AAC without a container, as .aac files have it, has neither a
# length nor tags.
ENDINGS: Mapping[Format, str] = MappingProxyType(
    {name: "m4a" if name == "aac" else name for name in CONTENT_TYPES}
)

# Opus in Ogg, AAC in ADTS: what each name means to OpenAI's audio API.
StreamFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
STREAM_CONTENT_TYPES: Mapping[StreamFormat, str] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg; codecs=opus",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)
PCM_RATE = 24_000  # Hz of a pcm stream: 16 bits, little endian, mono, no header
AAC_RATE = 48_000  # Hz of a stream: its coder looks 1024 samples ahead, 21 ms here, 64 at 16 kHz
# Those that a stream has, whatever the model's is, where no rate is asked for.
STREAM_RATES: Mapping[StreamFormat, int] = MappingProxyType({"pcm": PCM_RATE, "aac": AAC_RATE})

SAMPLE_RATE_MIN = 8_000  # Hz that a job may ask for
SAMPLE_RATE_MAX = 48_000
_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# Those that a format can have at all; any for a format that is not here.
SAMPLE_RATES: Mapping[Format, Sequence[int]] = MappingProxyType(
    {
        "mp3": _MPEG_RATES,
        "aac": _MPEG_RATES,
        "m4a": _MPEG_RATES,
        "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    }
)

# kbit/s of mp3, by the lowest rate at which they hold: MPEG-2.5, as far as every player follows it,
# MPEG-2 and MPEG-1, layer III.
_MP3_BIT_RATES: tuple[tuple[int, Sequence[int]], ...] = (
    (32_000, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16_000, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (0, (8, 16, 24, 32, 40, 48, 56, 64)),
)
_OPUS_BIT_RATES = range(6, 257)  # of one channel
HAVE_BIT_RATES: tuple[Format, ...] = ("mp3", "opus")  # AAC's encoder misses its own by up to half
BIT_RATE_MIN, BIT_RATE_MAX = 6, 320

STREAMS_WITH_TAGS: tuple[StreamFormat, ...] = ("mp3", "opus", "flac")  # at their beginning
HAVE_TAGS: tuple[Format, ...] = ("wav", "flac", "mp3", "ogg", "opus", "aac", "m4a")


def bit_rates(format: Format, sample_rate: int) -> Sequence[int]:  # noqa: A002 - the API's word
    """Bit rates in kbit/s that a file of the format can be asked for at this rate in Hz."""
    if format == "mp3":
        return next(rates for least, rates in _MP3_BIT_RATES if sample_rate >= least)
    return _OPUS_BIT_RATES if format == "opus" else ()


def content_type(format: Format, sample_rate: int) -> str:  # noqa: A002
    """The content type of a file; that of pcm says the rate, which the file does not."""
    return f"audio/pcm; rate={sample_rate}" if format == "pcm" else CONTENT_TYPES[format]


def stream_content_type(format: StreamFormat, sample_rate: int | None) -> str:  # noqa: A002
    """The content type of a stream; that of pcm says its rate where it is not PCM_RATE."""
    if format == "pcm" and sample_rate not in (None, PCM_RATE):
        return content_type(format, sample_rate or PCM_RATE)
    return STREAM_CONTENT_TYPES[format]
