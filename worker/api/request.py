"""What a job may ask: the API. docs/API.md is made from this module.

`parse_request` is the door: a job's input becomes a `SpeechRequest`, or a `RequestError` that
names each field that is wrong, the value given and what is allowed. Nothing is changed in
silence except: text is stripped, a JSON null counts as a field not given, and a leading
"voices/" of a reference's name is dropped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from worker.api.field_types import (
    REASON,
    LookOfSubtitles,
    Name,
    Reference,
    Temperature,
    Text,
    Transcript,
    allowed,
    names,
)
from worker.errors import RequestError
from worker.redaction import redact
from worker.speech.voice import Gender, Level, Style
from worker.subtitles.formats import Format

MAX_FAULTS = 10  # told of one job, so that a message stays readable

TaskToken = Literal["zero_shot", "cross_lingual", "continue"]
OutputFormat = Literal["wav", "flac", "mp3", "ogg"]

STYLE_FIELDS = ("speaker_gender", "pitch", "speed", "pitch_value", "speed_value")


class SpeechRequest(BaseModel):
    """One job's input, checked: every value is in its range and no two contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    text: Text = Field(description="What to say: English, Chinese, or both mixed.")
    prompt_speech_url: Reference | None = Field(
        default=None,
        validation_alias=AliasChoices("prompt_speech_url", "prompt_speech_path"),
        description="Reference audio: the voice to clone.",
    )
    prompt_text: Transcript | None = Field(
        default=None,
        description="What is said in the reference audio. With it the clone is closer; "
        "not used with `task_token` cross_lingual.",
    )
    voice: Name | None = Field(default=None, description="A voice saved earlier with `save_voice`.")
    save_voice: Name | None = Field(
        default=None,
        description="Keep this job's voice as voices/NAME.json, for `voice` in later jobs.",
    )
    speaker_gender: Gender | None = Field(
        default=None,
        validation_alias=AliasChoices("speaker_gender", "gender"),
        description="A controlled voice; female when a job names no voice at all.",
    )
    pitch: Level | None = Field(
        default=None, description="Pitch of a controlled voice; moderate when not given."
    )
    speed: Level | None = Field(
        default=None, description="Speed of a controlled voice; moderate when not given."
    )
    pitch_value: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Pitch of a controlled voice in mel, in place of `pitch`: "
        "forces the model's acoustic token.",
    )
    speed_value: int | None = Field(
        default=None,
        ge=0,
        le=10,
        description="Speed of a controlled voice, in place of `speed`: "
        "forces the model's acoustic token.",
    )
    pitch_shift: float = Field(
        default=0.0, ge=-12, le=12, description="Semitones, applied afterwards; the tempo stays."
    )
    speed_shift: float = Field(
        default=1.0,
        ge=0.5,
        le=2.0,
        description="Tempo factor, applied afterwards; the pitch stays.",
    )
    multi_sentence_gap: float = Field(
        default=0.3, ge=0, le=5, description="Seconds of silence between sentences."
    )
    task_token: TaskToken | None = Field(
        default=None,
        description="How a reference or saved voice is used: zero_shot (what an absent field "
        "means) with its transcript where there is one, cross_lingual its timbre only, continue "
        "with its transcript and each sentence going on from the one before.",
    )
    temperature: Temperature = Field(
        default=0.8,
        ge=0,
        le=2,
        description="Temperature of sampling; 0 always takes the likeliest token.",
    )
    top_k: int = Field(
        default=50,
        ge=0,
        le=8192,
        description="Sample from the K likeliest tokens only; 0: from all.",
    )
    top_p: float = Field(
        default=0.95,
        ge=0.001,
        le=1,
        description="Sample from the likeliest tokens that together have this probability.",
    )
    max_length: int = Field(
        default=3000,
        ge=64,
        le=8192,
        description="Tokens that one sentence may take; 50 are a second.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="The same seed and request give the same audio on the same device; "
        "drawn by chance when not given, and told in the response.",
    )
    output_name: Name = Field(
        default="speech", description="The result is kept as output/NAME_JOBID.FORMAT."
    )
    output_format: OutputFormat = Field(default="wav", description="Format of the audio file.")
    enable_whisperx: bool = Field(default=False, description="Give the time of every word.")
    enable_subtitles: bool = Field(
        default=False, description="Make a subtitle file; implies word timings."
    )
    subtitle_style: LookOfSubtitles | None = Field(
        default=None,
        description="How subtitles look: line by line, word by word within a line (karaoke), or "
        "an object of the settings of SubtitleStyle.",
    )
    subtitle_format: Format = Field(default="ass", description="Format of the subtitle file.")
    max_retries: int = Field(
        default=1,
        ge=0,
        le=3,
        description="With word timings: how often a sentence is spoken again, with another seed, "
        "when words of it seem to be missing or stretched.",
    )
    stream: bool | None = Field(
        default=None,
        description="Store each sentence by itself too and tell of it as soon as it is ready; the "
        "worker's STREAM when not given.",
    )
    url_expiry: int | None = Field(
        default=None,
        ge=60,
        le=604_800,
        description="Seconds that the pre-signed URLs live; "
        "the worker's S3_URL_EXPIRY (3600) when not given.",
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        """Many JSON writers put null where nothing was set."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        faults = list(_contradictions(self))
        if faults:
            raise PydanticCustomError(
                "contradiction", "the fields contradict each other", {"faults": faults}
            )
        return self

    @property
    def style(self) -> Style | None:
        """The controlled voice that is asked for; None with a reference or a saved voice."""
        if self.prompt_speech_url is not None or self.voice is not None:
            return None
        return Style(
            gender=self.speaker_gender or "female",
            pitch=self.pitch or "moderate",
            speed=self.speed or "moderate",
            pitch_value=self.pitch_value,
            speed_value=self.speed_value,
        )

    @property
    def uses_transcript(self) -> bool:
        """Whether a reference or saved voice is used with its transcript, where it has one."""
        return self.task_token != "cross_lingual"  # noqa: S105  no password

    @property
    def wants_timings(self) -> bool:
        """Whether the time of every word is needed."""
        return self.enable_whisperx or self.enable_subtitles

    @property
    def goes_on(self) -> bool:
        """Whether each sentence goes on from the one before it."""
        return self.task_token == "continue"  # noqa: S105


def _contradictions(asked: SpeechRequest) -> Iterator[tuple[str, str]]:
    """Each pair of fields that cannot both be meant: the field to change, and why."""
    styles = [name for name in STYLE_FIELDS if getattr(asked, name) is not None]
    spoken = [name for name in ("prompt_speech_url", "voice") if getattr(asked, name) is not None]
    first, *others = [*spoken, *styles[:1], ""]
    for other in filter(None, others):
        reason = f"{first} and {other} both choose a voice"
        yield other, f"{reason}; give one of prompt_speech_url, voice or {', '.join(STYLE_FIELDS)}"
    for level in ("pitch", "speed"):
        if {level, f"{level}_value"} <= set(styles):
            value = f"{level}_value"
            yield value, f"{level} and {value} both set the {level}; give one of them"
    if asked.prompt_text is not None and asked.prompt_speech_url is None:
        reason = "prompt_text is the transcript of prompt_speech_url"
        yield "prompt_text", f"{reason}; give that too, or leave prompt_text out"
    if asked.voice is not None and asked.save_voice is not None:
        reason = f"save_voice and voice: {asked.voice!r} is saved already"
        yield "save_voice", f"{reason}; give one of them"
    if asked.task_token is not None and not spoken:
        reason = f"task_token {asked.task_token!r} is about a reference"
        yield "task_token", f"{reason}; give prompt_speech_url or voice, or leave task_token out"
    elif asked.goes_on and asked.voice is None and asked.prompt_text is None:
        reason = "task_token 'continue' goes on from the reference's words"
        yield "task_token", f"{reason}; give its transcript as prompt_text"


def parse_request(job_input: object) -> SpeechRequest:
    """Check what the job asks for; `job_input` is the job's "input", as JSON gave it.

    Raises RequestError naming every fault (`field` is the first one's).
    """
    if not isinstance(job_input, dict):
        raise RequestError(
            f"input: {redact(job_input)} is not allowed; it must be an object that has at least "
            "the field text",
            field="input",
        )
    fields = _fields()
    unknown = [name for name in job_input if name not in fields]
    faults = [_unknown(name, fields) for name in unknown[:MAX_FAULTS]]
    try:
        request = SpeechRequest.model_validate(
            {name: value for name, value in job_input.items() if name in fields}
        )
    except ValidationError as error:
        faults += [fault for details in error.errors() for fault in _in_words(details, fields)]
    else:
        if not unknown:
            return request
    messages = [message for _, message in faults[:MAX_FAULTS]]
    more = max(len(unknown) - MAX_FAULTS, 0) + len(faults) - len(messages)
    if more:
        messages.append(f"and {more} more")
    raise RequestError(". ".join(messages), field=faults[0][0])


def _fields() -> dict[str, str]:
    """Every name that a job may use, aliases too, with its field's name."""
    return {
        name: field
        for field, info in SpeechRequest.model_fields.items()
        for name in names(field, info)
    }


def _unknown(name: object, fields: dict[str, str]) -> tuple[str, str]:
    near = difflib.get_close_matches(name[:64], fields, n=1) if isinstance(name, str) else []
    hint = f"did you mean {near[0]}?" if near else "docs/API.md lists them all"
    shown = name if isinstance(name, str) and re.fullmatch(r"\w{1,64}", name) else redact(name)
    return shown, f"{shown} is not a field of a job; {hint}"


def _in_words(error: ErrorDetails, fields: dict[str, str]) -> list[tuple[str, str]]:
    """Pydantic's error as (field, message) pairs, each with the value and what is allowed."""
    if error["type"] == "contradiction":
        return list(error["ctx"]["faults"])
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":  # known, so its other name was taken
        return [(name, f"{name} and {fields[name]} are two names of one field; give one of them")]
    may_be = allowed(SpeechRequest.model_fields[fields[name]])
    if error["type"] == "missing":
        return [(name, f"{name} is required; it must be {may_be}")]
    reason = error["msg"] if error["type"] == REASON else "is not allowed"
    return [(name, f"{name}: {redact(error['input'])} {reason}; it must be {may_be}")]
