"""What a voice is in the model's own terms, and the ranges of what it is made of.

    Voice        tokens of the codec; of a reference with its transcript, what it says besides
    Style        what a voice is designed from: labels, and finer values where they are to be forced
    CodecSizes   how many tokens make a voice, and which there are: the codec's config fixes both

A reference voice comes from audio, a designed voice from a style; both are saved and spoken with
alike. Nothing here needs torch, so the API may know it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Gender = Literal["female", "male"]
Level = Literal["very_low", "low", "moderate", "high", "very_high"]
# In the order of the numbers in the model's tokens <|gender_N|>, <|pitch_label_N|> and
# <|speed_label_N|>.
GENDERS: tuple[Gender, ...] = get_args(Gender)
LEVELS: tuple[Level, ...] = get_args(Level)
PITCH_VALUES = range(1001)  # mel
SPEED_VALUES = range(11)


@dataclass(frozen=True)
class CodecSizes:
    """What the codec's config fixes: how many codes there are, and how many make a voice."""

    voice_length: int  # global tokens of one voice
    global_codes: int
    semantic_codes: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> CodecSizes:
        """Read them from the codec's config, the part `audio_tokenizer`."""
        return cls(
            voice_length=int(config["speaker_encoder"]["token_num"]),
            global_codes=math.prod(config["speaker_encoder"]["fsq_levels"]),
            semantic_codes=int(config["quantizer"]["codebook_size"]),
        )


@dataclass(frozen=True)
class Style:
    """Three labels, and the model's own finer numbers where they are to be forced."""

    gender: Gender = "female"
    pitch: Level = "moderate"
    speed: Level = "moderate"
    pitch_value: int | None = None  # one of PITCH_VALUES
    speed_value: int | None = None  # one of SPEED_VALUES


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

    def why_unusable(self, sizes: CodecSizes) -> str | None:
        """Why a codec of these sizes has no such voice; None when it has."""
        if len(self.global_tokens) != sizes.voice_length:
            return f"it has {len(self.global_tokens)} global tokens, not {sizes.voice_length}"
        if not all(0 <= token < sizes.global_codes for token in self.global_tokens):
            return f"it has a global token outside 0..{sizes.global_codes - 1}"
        if not all(0 <= token < sizes.semantic_codes for token in self.semantic_tokens):
            return f"it has a semantic token outside 0..{sizes.semantic_codes - 1}"
        return None
