"""A voice in the model's own terms: tokens, or a style that the model designs it from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Voice:
    """A voice in the model's own terms.

    A reference voice has `global_tokens` and, where its transcript is known, `transcript` and
    `semantic_tokens` of the reference audio. A designed voice has `global_tokens` and a `style`
    with both values set.
    """

    global_tokens: tuple[int, ...]
    semantic_tokens: tuple[int, ...] = ()
    transcript: str | None = None
    style: Style | None = None


@dataclass(frozen=True)
class CodecSizes:
    """What the codec's config fixes: how many codes there are, and how many make a voice."""

    voice_length: int  # global tokens of one voice
    global_codes: int
    semantic_codes: int


Gender = Literal["female", "male"]
Level = Literal["very_low", "low", "moderate", "high", "very_high"]


@dataclass(frozen=True)
class Style:
    """Three labels, and the model's own finer numbers where they are to be forced."""

    gender: Gender = "female"
    pitch: Level = "moderate"
    speed: Level = "moderate"
    pitch_value: int | None = None  # mel, 0 to 1000
    speed_value: int | None = None  # 0 to 10
