"""What a job may ask for: the fields of the API. docs/API.md is made from this module.

`parse_request` makes a job's input a `SpeechRequest`, or raises a `RequestError` that names each
field that is wrong, the value given and what is allowed. Nothing is changed in silence except:
text is stripped, a JSON null counts as a field not given, and a leading "voices/" of a
reference's name is dropped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from worker.allowed_values import allowed
from worker.api.audio_fields import audio_contradictions
from worker.api.field_types import (
    MAX_TEXT,
    REASON,
    LookOfSubtitles,
    Name,
    PitchShift,
    PitchValue,
    Pronunciations,
    Reference,
    SpeedShift,
    SpeedValue,
    TagsOfFile,
    Temperature,
    Text,
    Transcript,
    TranscriptMismatch,
    is_name,
    names,
)
from worker.api.turns import STYLE_FIELDS, Turn, Turns, without_nulls
from worker.audio.formats import BIT_RATE_MAX, BIT_RATE_MIN, SAMPLE_RATE_MAX, SAMPLE_RATE_MIN
from worker.audio.formats import Format as AudioFormat
from worker.errors import RequestError
from worker.redaction import redact
from worker.speech.voice import Gender, Level, Style
from worker.subtitles.formats import Format as SubtitleFormat
from worker.text.markup import (
    OWN_VOICE,
    MarkedText,
    Stretch,
    TagError,
    VoiceTag,
    holds_tag,
    read_tags,
)

MAX_FAULTS = 10  # that one message names, so that it stays readable
_OPENAI = {"input": "text", "response_format": "output_format"}  # names at that route, and here

Normalize = Literal["auto", "on", "off"]
TaskToken = Literal["zero_shot", "cross_lingual", "continue"]

VOICE_FIELDS = ("prompt_speech_url", "prompt_text", "voice", *STYLE_FIELDS)


class SpeechRequest(BaseModel):
    """One job's input, checked: every value is in its range and no two contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    text: Text = Field(
        default="",
        description="The text to speak: English, Chinese, or both mixed. A line break ends a "
        "sentence, except in a paragraph that was wrapped: one with lines of about one length that "
        "do not end as sentences do. Verses, lists and titles are none. "
        "Required, but for a job with `turns`.",
    )
    turns: Turns | None = Field(
        default=None,
        description="In place of `text`, the turns of a dialogue or an audiobook, of any number "
        "of voices: objects with the fields of Turn.",
    )
    markup: bool = Field(
        default=False,
        description="Whether the text has tags: [pause:1.5s] for silence, [voice:NAME] for "
        "another voice. Else they are text like any other.",
    )
    pronunciations: Pronunciations | None = Field(
        default=None,
        description="How words are said where they are not said as they are written: "
        '{"Nguyen": "win", "SQL": "sequel"}. A key is a whole word or several, found in any case '
        "where it is in small letters, else only as it is written; the longest counts, and a "
        "possessive's s is kept. Segments, timings and subtitles have the written word.",
    )
    normalize: Normalize = Field(
        default="auto",
        description="Whether numbers, amounts, dates, times, units, telephone numbers, addresses, "
        "Roman numerals and symbols are given to the model in words, in English and Chinese; "
        "subtitles, segments and word timings keep what is written. auto: what can be meant in one "
        "way only, by its form or by what stands beside it, and dates: 3/4/2024 is March 4th, "
        "3.4.2024 April 3rd. on: everything, in the likeliest way. off: nothing.",
    )
    prompt_speech_url: Reference | None = Field(
        default=None,
        validation_alias=AliasChoices("prompt_speech_url", "prompt_speech_path"),
        description="A recording whose voice is cloned: 1 to 60 seconds of speech. WAV, FLAC, MP3, "
        "OGG (Vorbis, Opus), M4A or MP4, WebM, 3GP or AMR, WMA, AIFF or CAF, a film's sound too; "
        "the file's name means nothing. It is heard to its end, whatever its header says of its "
        "length. Of several channels the one with the loudest voice is heard, as it is, the first "
        "where none is clearly louder; of several tracks the default one. Where another channel "
        "holds somebody else, `warnings` says which was heard.",
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
    pitch_value: PitchValue | None = Field(
        default=None,
        description="The pitch of a designed voice as a number in mel, in place of `pitch`.",
    )
    speed_value: SpeedValue | None = Field(
        default=None,
        description="How fast a designed voice speaks, as a number, in place of `speed`.",
    )
    pitch_shift: PitchShift = Field(
        default=0.0,
        description="Semitones by which the finished speech is raised or lowered; its tempo stays.",
    )
    speed_shift: SpeedShift = Field(
        default=1.0,
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
        description="The name of the job's files in the bucket: output/NAME_JOBID.ENDING.",
    )
    output_format: AudioFormat = Field(
        default="wav",
        description="The format of the audio file. ogg: Vorbis in Ogg. opus: Opus in Ogg. aac or "
        "m4a: AAC in MP4, the file's ending is m4a. pcm: 16 bits, little endian, no header. All "
        "have one channel.",
    )
    sample_rate: int | None = Field(
        default=None,
        ge=SAMPLE_RATE_MIN,
        le=SAMPLE_RATE_MAX,
        description="The sample rate of the audio in hertz; the model's own, 16000, when not "
        "given. wav, flac, ogg and pcm take any; mp3, aac and m4a 8000, 11025, 12000, 16000, "
        "22050, 24000, 32000, 44100 and 48000; opus 8000, 12000, 16000, 24000 and 48000, and its "
        "readers give 48000. A higher one than the model's adds no treble.",
    )
    bit_rate: int | None = Field(
        default=None,
        ge=BIT_RATE_MIN,
        le=BIT_RATE_MAX,
        description="The bit rate of mp3 or opus in kbit/s. mp3 has then one that is constant: 8 "
        "to 64 below 16000 Hz, 8 to 160 below 32000 Hz, 32 to 320 from there on, in MPEG's steps. "
        "When not given, mp3 has the quality V4 of LAME (about 53 at 16000 Hz), and opus 48.",
    )
    loudness: float | None = Field(
        default=None,
        ge=-36,
        le=-8,
        description="How loud the whole speech is made, in LUFS (EBU R 128), such as -19 for a "
        "podcast of one channel, as loud as -16 of two; as the model spoke it when not given.",
    )
    true_peak: float | None = Field(
        default=None,
        ge=-9,
        le=0,
        description="The highest that a peak may be, between the samples too, in dBTP; -1 when not "
        "given. A lossy encoder may add some tenths.",
    )
    tags: TagsOfFile | None = Field(
        default=None,
        description="What the file says of itself, in its title and other tags, where the format "
        "has them: an object of Tags. Every such file says too that it is synthetic speech, and of "
        "which model.",
    )
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
    subtitle_bom: bool = Field(
        default=False,
        description="Whether the subtitles begin with a byte order mark, for players on Windows "
        "that take a file without one for another encoding than UTF-8.",
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
        return without_nulls(given)

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
    def whole_text(self) -> str:
        """All that the job says, without its tags."""
        if self.turns is not None:
            return "\n".join(self.of_turn(turn).whole_text for turn in self.turns)
        return "".join(stretch.text for stretch in self.marked.stretches)

    @property
    def marked(self) -> MarkedText:
        """The text as its tags part it; all of it as one, where tags count for nothing."""
        return read_tags(self.text) if self.markup else MarkedText((Stretch(self.text),))

    def of_turn(self, turn: Turn) -> Self:
        """The request as it holds for this turn alone, whose voice is its own or the job's."""
        own = {name: getattr(turn, name) for name in VOICE_FIELDS}
        shifts = {
            name: value
            for name in ("pitch_shift", "speed_shift")
            if (value := getattr(turn, name)) is not None
        }
        voice = own if turn.chooses_voice else {}
        return self.model_copy(update={"text": turn.text, "turns": None, **voice, **shifts})

    def with_voice(self, name: str) -> Self:
        """The request as it is where this saved or built-in voice speaks."""
        return self.model_copy(update={**dict.fromkeys(VOICE_FIELDS), "voice": name})

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
    """Fields that contradict each other: the one to change, and the message."""
    yield from _voice_contradictions(request)
    for number, turn in enumerate(request.turns or ()):
        for name, message in _voice_contradictions(turn):
            yield f"turns[{number}].{name}", f"turns[{number}]: {message}"
    yield from _turns_contradictions(request)
    tags: list[VoiceTag] = []
    for field, faults, found in _tags(request):
        yield from ((field, fault) for fault in faults)
        tags += found
    for word, said in (request.pronunciations or {}).items():
        if request.markup and holds_tag(said):
            reason = f"pronunciations: {redact(word)} is said as {redact(said)}, which has a tag"
            yield "pronunciations", f"{reason}; tags stand in the text alone"
    yield from _save_contradictions(request, tags)
    yield from _task_contradictions(request, tags)
    yield from audio_contradictions(request)


def _save_contradictions(
    request: SpeechRequest, tags: Sequence[VoiceTag]
) -> Iterator[tuple[str, str]]:
    """Of save_voice, which is for a job with one new voice."""
    if request.save_voice is None:
        return
    if request.voice is not None:
        reason = f"save_voice would save the voice {request.voice!r}, which is saved already"
        yield "save_voice", f"{reason}; give voice or save_voice, not both"
    if tags or request.turns is not None:
        several = f"the text has {tags[0].shown}" if tags else "turns may have several"
        reason = f"save_voice saves a job's one voice, and {several}"
        yield "save_voice", f"{reason}; save each voice with a job of its own"


def _task_contradictions(
    request: SpeechRequest, tags: Sequence[VoiceTag]
) -> Iterator[tuple[str, str]]:
    """Of task_token, which is for what a recording or a saved voice says."""
    chosen: list[SpeechRequest | Turn] = [request, *(request.turns or ())]
    named = any(one.voice is not None or one.prompt_speech_url is not None for one in chosen)
    if request.continues and (request.turns is not None or tags):
        reason = "task_token 'continue' is for one voice, and this job may have several"
        yield "task_token", f"{reason}; leave task_token out, or send a job for each voice"
    elif request.task_token is not None and not named and not tags:
        reason = f"task_token {request.task_token!r} needs a recording or a saved voice"
        yield "task_token", f"{reason}; give prompt_speech_url or voice, or leave task_token out"
    elif request.continues and request.voice is None and request.prompt_text is None:
        reason = "task_token 'continue' needs the words of the recording, to continue from them"
        yield "task_token", f"{reason}; give its transcript as prompt_text"


def _voice_contradictions(given: SpeechRequest | Turn) -> Iterator[tuple[str, str]]:
    """Of the fields that choose a voice."""
    style = [name for name in STYLE_FIELDS if getattr(given, name) is not None]
    voices = [name for name in ("prompt_speech_url", "voice") if getattr(given, name) is not None]
    first, *others = [*voices, *style[:1], ""]
    for other in filter(None, others):
        reason = f"{first} and {other} both choose a voice"
        yield other, f"{reason}; give one of prompt_speech_url, voice or {', '.join(STYLE_FIELDS)}"
    for level in ("pitch", "speed"):
        if {level, f"{level}_value"} <= set(style):
            value = f"{level}_value"
            yield value, f"{level} and {value} both set the {level}; give one of them"
    if given.prompt_text is not None and given.prompt_speech_url is None:
        reason = "prompt_text is the transcript of prompt_speech_url, which is missing"
        yield "prompt_text", f"{reason}; give prompt_speech_url too, or leave prompt_text out"


def _turns_contradictions(request: SpeechRequest) -> Iterator[tuple[str, str]]:
    """Of turns, which stand in place of a text."""
    if request.turns is None:
        return
    if request.text:
        yield "turns", "text and turns both say what is spoken; give one of them"
    if (length := sum(len(turn.text) for turn in request.turns)) > MAX_TEXT:
        reason = f"turns: their texts are {length} characters long together"
        yield "turns", f"{reason}; at most {MAX_TEXT:,} may be"


def _tags(request: SpeechRequest) -> Iterator[tuple[str, Sequence[str], Sequence[VoiceTag]]]:
    """Each text's field, what is wrong with its tags, and those that name a voice."""
    texts = {"text": request.text} if request.turns is None else {}
    texts |= {f"turns[{n}].text": turn.text for n, turn in enumerate(request.turns or ())}
    for field, text in texts.items():
        if not request.markup or not text:
            continue
        try:
            tags = read_tags(text).tags
        except TagError as error:
            yield field, [f"{field} {error}"], []
            continue
        may_be = f"{allowed(SpeechRequest.model_fields['voice'])}, or {OWN_VOICE}"
        faults = [
            f"{field} has {tag.shown}, whose value must be {may_be}"
            for tag in tags
            if not is_name(tag.name)
        ]
        yield field, faults, tags


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
    fields = _names_of(SpeechRequest)
    unknown = [name for name in job_input if name not in fields]
    faults = [_unknown(name, fields) for name in unknown[:MAX_FAULTS]]
    if job_input.get("text") is None and job_input.get("turns") is None:
        may_be = allowed(SpeechRequest.model_fields["text"])
        faults.append(("text", f"text is required, but for a job with turns; it must be {may_be}"))
    try:
        request = SpeechRequest.model_validate(
            {name: value for name, value in job_input.items() if name in fields}
        )
    except ValidationError as error:
        errors = error.errors()
        if any(details["loc"][:1] == ("turns",) and len(details["loc"]) > 1 for details in errors):
            # Where no turn is right, pydantic says of the list too that it is too short.
            errors = [details for details in errors if details["loc"] != ("turns",)]
        faults += [fault for details in errors for fault in _in_words(details, fields)]
    else:
        if not faults:
            return request
    messages = [message for _, message in faults[:MAX_FAULTS]]
    more = max(len(unknown) - MAX_FAULTS, 0) + len(faults) - len(messages)
    if more:
        messages.append(f"and {more} more")
    sentences = [one if one.endswith("?") else f"{one}." for one in messages]
    raise RequestError(" ".join(sentences).removesuffix("."), field=faults[0][0])


def _names_of(model: type[BaseModel]) -> dict[str, str]:
    """Names that may be used in an object, aliases too, each with its field's name."""
    return {
        name: field for field, info in model.model_fields.items() for name in names(field, info)
    }


def _unknown(name: object, fields: dict[str, str]) -> tuple[str, str]:
    """An unknown field as it may be shown, and the message."""
    shown = name if isinstance(name, str) and re.fullmatch(r"\w{1,64}", name) else redact(name)
    if name in _names_of(Turn):
        hint = "it is one of a turn's, in turns"
    elif name in _OPENAI:
        hint = f"here it is {_OPENAI[name]}"
    else:
        hint = _near(name, fields) or "docs/API.md lists them all"
    return shown, f"{shown} is not a field of a job; {hint}"


def _near(name: object, fields: Iterable[str]) -> str:
    """A question after the field whose name is like this one; nothing where none is."""
    near = difflib.get_close_matches(name[:64], fields, n=1) if isinstance(name, str) else []
    return f"did you mean {near[0]}?" if near else ""


def _in_words(error: ErrorDetails, fields: dict[str, str]) -> list[tuple[str, str]]:
    """Pydantic's error as (field, message) pairs, each with the value and what is allowed."""
    if error["type"] == "contradiction":
        return list(error["ctx"]["faults"])
    name = str(error["loc"][0])
    if name == "turns" and len(error["loc"]) > 1:
        return [_in_words_of_turn(error)]
    if error["type"] == "extra_forbidden":  # known, so its other name was taken
        return [(name, f"{name} and {fields[name]} are two names of one field; give one of them")]
    may_be = allowed(SpeechRequest.model_fields[fields[name]])
    if error["type"] == "missing":
        return [(name, f"{name} is required; it must be {may_be}")]
    reason = error["msg"] if error["type"] == REASON else "is not allowed"
    return [(name, f"{name}: {redact(error['input'])} {reason}; it must be {may_be}")]


def _in_words_of_turn(error: ErrorDetails) -> tuple[str, str]:
    """Pydantic's error about a turn as the field and the message."""
    _, number, *inner = error["loc"]
    where = f"turns[{number}]"
    if not inner:
        return where, f"{where}: {redact(error['input'])} is not allowed; it must be an object"
    fields = _names_of(Turn)
    name = str(inner[0])
    if error["type"] == "extra_forbidden":
        if name in fields:  # its other name was taken
            reason = f"{name} and {fields[name]} are two names of one field; give one of them"
            return where, f"{where}: {reason}"
        shown, _ = _unknown(name, fields)
        if name in _names_of(SpeechRequest):
            hint = "it is the job's, for all turns"
        else:
            hint = _near(name, fields) or f"it has {', '.join(Turn.model_fields)}"
        return where, f"{where}: {shown} is not a field of a turn; {hint}"
    may_be = allowed(Turn.model_fields[fields[name]])
    where = f"{where}.{name}"
    if error["type"] == "missing":
        return where, f"{where} is required; it must be {may_be}"
    reason = error["msg"] if error["type"] == REASON else "is not allowed"
    return where, f"{where}: {redact(error['input'])} {reason}; it must be {may_be}"
