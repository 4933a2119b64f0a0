"""Formats of audio files: their names, content types and encodings."""

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
