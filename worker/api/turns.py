"""The turns of a dialogue or an audiobook: who says what, in place of one text."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from worker.allowed_values import Allowed
from worker.api.field_types import (
    Name,
    PitchShift,
    PitchValue,
    Reference,
    SpeakerName,
    SpeedShift,
    SpeedValue,
    Text,
    Transcript,
)
from worker.speech.voice import Gender, Level
from worker.text.markup import MAX_PAUSE

MAX_TURNS = 500

# The fields that a designed voice is made from.
STYLE_FIELDS = ("speaker_gender", "pitch", "speed", "pitch_value", "speed_value")


class Turn(BaseModel):
    """One turn: a text, who says it, and how.

    Its voice is chosen in one of the three ways of a job, by the same fields. A turn without any of
    them has the voice of its `speaker`, if an earlier turn gave that one, else the job's own; where
    that is designed, each speaker without a voice has another one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    text: Text = Field(description="What is said, as the job's own `text` would be.")
    speaker: SpeakerName | None = Field(
        default=None,
        description="Who says it, for segments, word timings and subtitles. All turns of one "
        "speaker have one voice. Turns without a name whose fields choose the same voice have one "
        "speaker; a turn that names its speaker is another's, though the voice be the same.",
    )
    voice: Name | None = Field(
        default=None, description="The name of a saved or built-in voice, as in a job."
    )
    prompt_speech_url: Reference | None = Field(
        default=None,
        validation_alias=AliasChoices("prompt_speech_url", "prompt_speech_path"),
        description="A recording whose voice is cloned, as in a job.",
    )
    prompt_text: Transcript | None = Field(
        default=None, description="The transcript of the recording."
    )
    speaker_gender: Gender | None = Field(
        default=None,
        validation_alias=AliasChoices("speaker_gender", "gender"),
        description="The gender of a designed voice; female when not given.",
    )
    pitch: Level | None = Field(
        default=None, description="The pitch of a designed voice; moderate when not given."
    )
    speed: Level | None = Field(
        default=None, description="How fast a designed voice speaks; moderate when not given."
    )
    pitch_value: PitchValue | None = Field(
        default=None,
        description="The pitch of a designed voice as a number in mel, in place of `pitch`.",
    )
    speed_value: SpeedValue | None = Field(
        default=None,
        description="How fast a designed voice speaks, as a number, in place of `speed`.",
    )
    pitch_shift: PitchShift | None = Field(
        default=None,
        description="Semitones by which this turn is raised or lowered; the job's when not given.",
    )
    speed_shift: SpeedShift | None = Field(
        default=None,
        description="Factor by which this turn is made faster; the job's when not given.",
    )
    pause: float | None = Field(
        default=None,
        ge=0,
        le=MAX_PAUSE,
        description="Seconds of silence before the turn; `multi_sentence_gap` when not given, and "
        "none before the first turn.",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        return without_nulls(given)

    @property
    def chooses_voice(self) -> bool:
        """Whether the turn has a field that chooses its voice."""
        fields = ("prompt_speech_url", "voice", *STYLE_FIELDS)
        return any(getattr(self, name) is not None for name in fields)


def without_nulls(given: Any) -> Any:
    """The fields without those that are null: many JSON writers put it where nothing was set."""
    if not isinstance(given, dict):
        return given
    return {name: value for name, value in given.items() if value is not None}


Turns = Annotated[
    tuple[Turn, ...],
    Field(strict=False, min_length=1, max_length=MAX_TURNS),
    Allowed(f"a list of 1 to {MAX_TURNS:,} turns, each an object with at least the field text"),
]
