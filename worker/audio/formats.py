"""Formats of audio, as files and as streams: their names, content types and encodings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Format = Literal["wav", "flac", "mp3", "ogg"]
CONTENT_TYPES: Mapping[Format, str] = MappingProxyType(
    {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg"}
)
ENCODINGS: Mapping[Format, tuple[str, str]] = MappingProxyType(
    {
        "wav": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
        "ogg": ("OGG", "VORBIS"),
    }
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
