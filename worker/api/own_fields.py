"""What the worker's own routes take and answer in JSON: for the OpenAPI document.

The requests are checked elsewhere (`api/speech.py`, `api/batch.py`, `api/new_voice.py`); this says
what they may hold.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from worker.api.answers import ErrorAnswer, Fault
from worker.api.batch import MAX_ITEMS
from worker.api.field_types import Name, Text, Transcript, TranscriptMismatch
from worker.api.new_voice import Consent
from worker.api.openai_fields import DeltaEvent, OpenAISpeechFields, optional_fields
from worker.api.response import (
    Metrics,
    Segment,
    SpeakerUsed,
    SpeechResponse,
    TimedWord,
    VoiceUsed,
    Warnings,
)
from worker.audio.formats import StreamFormat
from worker.speech.voice import Style


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# Speech


class _JobInput(_Given):
    text: Text | None = Field(
        default=None,
        description="The text to speak: English, Chinese, or both mixed. A line break ends a "
        "sentence, except in a paragraph that was wrapped: one with lines of about one length that "
        "do not end as sentences do. Verses, lists and titles are none. "
        "Required, but for a request with `turns`.",
    )


class _OwnFields(_JobInput):
    response_format: StreamFormat | None = Field(
        default=None,
        description="The format of the audio in a stream of events; pcm when not given: 16 bits, "
        "little endian, mono, 24 kHz, no header. Only with `stream`.",
    )
    stream: bool | None = Field(
        default=None,
        description="Whether the answer is a stream of server-sent events; as the header Accept "
        "says when not given.",
    )


JobFields: type[BaseModel] = create_model(
    "JobFields", __base__=_JobInput, **optional_fields(("text",))
)
OwnSpeechFields: type[BaseModel] = create_model(
    "OwnSpeechFields", __base__=_OwnFields, **optional_fields(("text", "stream"))
)


class WrappedSpeechFields(_Given):
    """The same as the queue's clients send it."""

    input: OwnSpeechFields = Field(description="The request.")


class SentenceEvent(_Answer):
    """A sentence whose audio has been given."""

    type: Literal["speech.sentence"] = Field(
        default="speech.sentence", description="Always speech.sentence."
    )
    index: int = Field(ge=0, description="The number of the sentence, from 0 on.")
    total: int | None = Field(ge=1, description="How many sentences there are, where known.")
    text: str = Field(description="The text of the sentence.")
    start: float = Field(ge=0, description="Seconds from the start of the audio to its start.")
    end: float = Field(ge=0, description="Seconds from the start of the audio to its end.")
    words: tuple[TimedWord, ...] | None = Field(
        description="The words and their times; only with `enable_whisperx` or `enable_subtitles`."
    )
    speaker: str | None = Field(
        default=None, description="Who speaks; only with `turns` or a voice in a tag."
    )


class Subtitles(_Answer):
    """The subtitle file, in each format."""

    ass: str = Field(description="Advanced SubStation Alpha.")
    srt: str = Field(description="SubRip.")
    vtt: str = Field(description="WebVTT.")


class SpeechDoneEvent(_Answer):
    """What is known when all is said."""

    type: Literal["speech.done"] = Field(default="speech.done", description="Always speech.done.")
    sample_rate: int = Field(
        gt=0, description="The sample rate in hertz that was asked for, or else the model's."
    )
    duration: float = Field(ge=0, description="The length of the audio in seconds.")
    segments: tuple[Segment, ...] = Field(description="The sentences, in order.")
    word_timings: tuple[TimedWord, ...] | None = Field(
        description="All words; only with `enable_whisperx` or `enable_subtitles`."
    )
    subtitles: Subtitles | None = Field(description="Only with `enable_subtitles`.")
    voice: VoiceUsed = Field(description="The voice that spoke; of several, the first one.")
    speakers: tuple[SpeakerUsed, ...] | None = Field(
        description="Who spoke; only with `turns` or a voice in a tag."
    )
    seed: int = Field(ge=0, description="The seed of the speech.")
    warnings: Warnings
    metrics: Metrics = Field(description="What the request cost.")


class ErrorEvent(_Answer):
    """What went wrong; the stream ends with it."""

    type: Literal["error"] = Field(default="error", description="Always error.")
    error: Fault = Field(description="The error.")


SPEECH_EVENTS = (DeltaEvent, SentenceEvent, SpeechDoneEvent, ErrorEvent)


# Batches


class BatchFields(_Given):
    """Many requests in one."""

    items: Annotated[
        list[OpenAISpeechFields | JobFields],
        Field(min_length=1, max_length=MAX_ITEMS),
    ] = Field(
        description="The requests: each the body of one to OpenAI's route or the input of a job."
    )


class Spoken(_Answer):
    """An item that was spoken."""

    index: int = Field(ge=0, description="Which item it is, from 0 on.")
    status: Literal[200] = Field(description="Always 200.")
    response: SpeechResponse = Field(description="The queue's answer.")


class Failed(ErrorAnswer):
    """An item that was not."""

    index: int = Field(ge=0, description="Which item it is, from 0 on.")
    status: int = Field(ge=400, le=599, description="The status of such an error at other routes.")


class BatchAnswer(_Answer):
    """What came of each item, in their order."""

    object: Literal["list"] = Field(default="list", description="Always list.")
    data: tuple[Spoken | Failed, ...] = Field(description="The outcomes.")


# Voices


class VoiceAnswer(_Answer):
    """A voice that a request may name."""

    object: Literal["voice"] = Field(default="voice", description="Always voice.")
    id: str = Field(description="What a request names.")
    name: str = Field(description="What people read.")
    kind: Literal["builtin", "saved"] = Field(description="builtin, or saved in the storage.")
    model: str | None = Field(description="The model that made a saved voice.")
    has_transcript: bool = Field(description="Whether it knows the words of its recording.")
    created_at: int | None = Field(description="Seconds since 1970, where known.")
    consent: str | None = Field(description="The speaker's consent, as stated with the recording.")
    style: Style | None = Field(description="Of a designed voice.")


class NewVoiceAnswer(VoiceAnswer):
    """A voice that was saved just now."""

    warnings: Warnings


class VoiceName(_Answer):
    """A voice, in short."""

    id: str = Field(description="What a request names.")
    name: str = Field(description="What people read.")


class VoiceList(_Answer):
    """The voices that a request may name."""

    object: Literal["list"] = Field(default="list", description="Always list.")
    data: tuple[VoiceAnswer, ...] = Field(description="The built-in ones, then the saved ones.")
    voices: tuple[VoiceName, ...] = Field(
        description="The same in short, as OpenAI-compatible pages look for them."
    )


class VoiceForm(_Given):
    """A recording whose voice is saved."""

    audio: bytes = Field(
        description="The recording: 1 to 60 seconds of speech, in a format that prompt_speech_url "
        "may have too. The name audio_sample is taken too.",
        json_schema_extra={"format": "binary"},
    )
    name: Name = Field(description="The name under which the voice is saved.")
    transcript: Transcript | None = Field(
        default=None,
        description="The words of the recording; with them the clone sounds closer to the speaker.",
    )
    transcript_mismatch: TranscriptMismatch = Field(
        default="drop",
        description="What becomes of a transcript that is not what the recording says, which a "
        "worker with a model for word timings can tell. drop: the voice is saved without it, and "
        "`warnings` say so. refuse: it is not saved. ignore: it is not checked.",
    )
    consent: Consent = Field(description="That the speaker consents to the use of this voice.")
