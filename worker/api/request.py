"""What a job may ask for: the fields of the API. docs/API.md is made from this module.

`parse_request` makes a job's input a `SpeechRequest`, or raises a `RequestError` that names each
field that is wrong, the value given and what is allowed. Nothing is changed in silence except:
text is stripped, a JSON null counts as a field not given, and a leading "voices/" of a
reference's name is dropped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from worker.allowed_values import allowed
from worker.api.field_types import (
    REASON,
    LookOfSubtitles,
    Name,
    Reference,
    Temperature,
    Text,
    Transcript,
    TranscriptMismatch,
    names,
)
from worker.audio.formats import Format as AudioFormat
from worker.errors import RequestError
from worker.redaction import redact
from worker.speech.voice import Gender, Level, Style
from worker.subtitles.formats import Format as SubtitleFormat

MAX_FAULTS = 10  # that one message names, so that it stays readable

TaskToken = Literal["zero_shot", "cross_lingual", "continue"]

# The fields that a designed voice is made from.
STYLE_FIELDS = ("speaker_gender", "pitch", "speed", "pitch_value", "speed_value")


class SpeechRequest(BaseModel):
    """One job's input, checked: every value is in its range and no two contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    text: Text = Field(
        description="The text to speak: English, Chinese, or both mixed. A line break ends a "
        "sentence."
    )
    prompt_speech_url: Reference | None = Field(
        default=None,
        validation_alias=AliasChoices("prompt_speech_url", "prompt_speech_path"),
        description="A recording whose voice is cloned: 1 to 60 seconds of speech.",
    )
    prompt_text: Transcript | None = Field(
        default=None,
        description="The transcript of the recording. With it the clone sounds closer to the "
        "speaker; not used with `task_token` cross_lingual.",
    )
    transcript_mismatch: TranscriptMismatch = Field(
        default="drop",
        description="What becomes of a `prompt_text` that is not what the recording says, which a "
        "worker with a model for word timings can tell. drop: it is left out, and the answer's "
        "`warnings` say so; with `task_token` continue, which needs it, it is refused. refuse: "
        "the job fails. ignore: it is not checked.",
    )
    voice: Name | None = Field(
        default=None,
        description="The name of the voice that speaks: one that an earlier job saved with "
        "`save_voice`, or a built-in one. Those are alloy, ash, ballad, cedar, coral, echo, fable, "
        "marin, nova, onyx, sage, shimmer and verse, where the operator's VOICE_NAMES does not say "
        "otherwise.",
    )
    save_voice: Name | None = Field(
        default=None,
        description="A name under which this job's voice is saved, as voices/NAME.json; later "
        "jobs use it with `voice`. No name of a built-in voice.",
    )
    speaker_gender: Gender | None = Field(
        default=None,
        validation_alias=AliasChoices("speaker_gender", "gender"),
        description="The gender of a designed voice, which the model makes up; female when not "
        "given.",
    )
    pitch: Level | None = Field(
        default=None, description="The pitch of a designed voice; moderate when not given."
    )
    speed: Level | None = Field(
        default=None, description="How fast a designed voice speaks; moderate when not given."
    )
    pitch_value: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="The pitch of a designed voice as a number in mel, in place of `pitch`.",
    )
    speed_value: int | None = Field(
        default=None,
        ge=0,
        le=10,
        description="How fast a designed voice speaks, as a number, in place of `speed`.",
    )
    pitch_shift: float = Field(
        default=0.0,
        ge=-12,
        le=12,
        description="Semitones by which the finished speech is raised or lowered; its tempo stays.",
    )
    speed_shift: float = Field(
        default=1.0,
        ge=0.25,
        le=4.0,
        description="Factor by which the finished speech is made faster; its pitch stays.",
    )
    multi_sentence_gap: float = Field(
        default=0.3, ge=0, le=5, description="Seconds of silence between two sentences."
    )
    task_token: TaskToken | None = Field(
        default=None,
        description="How the voice of a recording or a saved voice is used. zero_shot: with its "
        "transcript, where there is one. cross_lingual: its timbre alone, for a text in another "
        "language. continue: with its transcript, and each sentence continues from the one before "
        "it. zero_shot when not given.",
    )
    temperature: Temperature = Field(
        default=0.8,
        ge=0,
        le=2,
        description="How freely the model chooses its tokens; 0 always takes the likeliest one.",
    )
    top_k: int = Field(
        default=50,
        ge=0,
        le=8192,
        description="How many of the likeliest tokens the model chooses from; 0: from all.",
    )
    top_p: float = Field(
        default=0.95,
        ge=0.001,
        le=1,
        description="The model chooses among the likeliest tokens whose probabilities together "
        "reach this; 1: among all.",
    )
    max_length: int = Field(
        default=3000,
        ge=64,
        le=8192,
        description="The most tokens that one sentence may take; 50 are one second of speech.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="The same seed and request give the same audio on the same kind of device. "
        "When not given, the worker chooses one; the answer has it.",
    )
    output_name: Name = Field(
        default="speech",
        description="The name of the job's files in the bucket: output/NAME_JOBID.FORMAT.",
    )
    output_format: AudioFormat = Field(default="wav", description="The format of the audio file.")
    enable_whisperx: bool = Field(
        default=False, description="Whether the answer has the time of every word."
    )
    enable_subtitles: bool = Field(
        default=False,
        description="Whether a subtitle file is made too; the answer then has the time of every "
        "word as well.",
    )
    subtitle_style: LookOfSubtitles | None = Field(
        default=None,
        description="How the subtitles look: line (whole lines), karaoke (word by word within a "
        "line), or an object with the settings of SubtitleStyle; line when not given.",
    )
    subtitle_format: SubtitleFormat = Field(
        default="ass", description="The format of the subtitle file."
    )
    max_retries: int = Field(
        default=1,
        ge=0,
        le=3,
        description="How many times a sentence is spoken again, each time with another seed, when "
        "it is far too short or too long for its text, silent inside, cut off, or repeats itself; "
        "in a job with word timings or subtitles also when words seem to be missing or stretched.",
    )
    stream: bool | None = Field(
        default=None,
        description="Whether each sentence is also stored by itself and announced as soon as it "
        "is ready; the worker's STREAM decides when not given.",
    )
    url_expiry: int | None = Field(
        default=None,
        ge=60,
        le=604_800,
        description="Seconds for which the pre-signed URLs can be used; the worker's "
        "S3_URL_EXPIRY (3600) when not given.",
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
        """The style that the job's voice is designed from; None with a recording or saved voice."""
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
        """Whether a recording or saved voice is used with its transcript, where it has one."""
        return self.task_token != "cross_lingual"  # noqa: S105  no password

    @property
    def continues(self) -> bool:
        """Whether each sentence continues from the one before it."""
        return self.task_token == "continue"  # noqa: S105

    @property
    def wants_timings(self) -> bool:
        """Whether the time of every word is needed."""
        return self.enable_whisperx or self.enable_subtitles


def _contradictions(request: SpeechRequest) -> Iterator[tuple[str, str]]:
    """Pairs of fields that contradict each other: the field to change, and the message."""
    style = [name for name in STYLE_FIELDS if getattr(request, name) is not None]
    voices = [name for name in ("prompt_speech_url", "voice") if getattr(request, name) is not None]
    first, *others = [*voices, *style[:1], ""]
    for other in filter(None, others):
        reason = f"{first} and {other} both choose a voice"
        yield other, f"{reason}; give one of prompt_speech_url, voice or {', '.join(STYLE_FIELDS)}"
    for level in ("pitch", "speed"):
        if {level, f"{level}_value"} <= set(style):
            value = f"{level}_value"
            yield value, f"{level} and {value} both set the {level}; give one of them"
    if request.prompt_text is not None and request.prompt_speech_url is None:
        reason = "prompt_text is the transcript of prompt_speech_url, which is missing"
        yield "prompt_text", f"{reason}; give prompt_speech_url too, or leave prompt_text out"
    if request.voice is not None and request.save_voice is not None:
        reason = f"save_voice would save the voice {request.voice!r}, which is saved already"
        yield "save_voice", f"{reason}; give voice or save_voice, not both"
    if request.task_token is not None and not voices:
        reason = f"task_token {request.task_token!r} needs a recording or a saved voice"
        yield "task_token", f"{reason}; give prompt_speech_url or voice, or leave task_token out"
    elif request.continues and request.voice is None and request.prompt_text is None:
        reason = "task_token 'continue' needs the words of the recording, to continue from them"
        yield "task_token", f"{reason}; give its transcript as prompt_text"


def parse_request(job_input: object) -> SpeechRequest:
    """Check a job's input; `job_input` is the value of its "input", as JSON gave it.

    Raises RequestError naming every fault (`field` is the first one's).
    """
    if not isinstance(job_input, dict):
        raise RequestError(
            f"input: {redact(job_input)} is not allowed; it must be an object with at least the "
            "field text",
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
    """Names that a job may use, aliases too, each with its field's name."""
    return {
        name: field
        for field, info in SpeechRequest.model_fields.items()
        for name in names(field, info)
    }


def _unknown(name: object, fields: dict[str, str]) -> tuple[str, str]:
    """An unknown field as it may be shown, and the message."""
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
