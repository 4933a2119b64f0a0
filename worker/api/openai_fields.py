"""The fields of OpenAI's request for speech, beside ours: for the OpenAPI document.

`api/openai.py` checks a request; this says what it may hold.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from worker.api.field_types import Name, Text
from worker.api.openai import LEAST_SPEED, MOST_SPEED, StreamForm
from worker.api.request import SpeechRequest
from worker.audio.formats import StreamFormat
from worker.speech.voice import Level


class VoiceById(BaseModel):
    """A voice as OpenAI's API names one of the client's own."""

    model_config = ConfigDict(extra="forbid")

    id: Name = Field(description="The voice's name.")


class _OpenAIFields(BaseModel):
    model_config = ConfigDict(extra="forbid", title="OpenAISpeechRequest")

    model: str | None = Field(
        default=None, description="One of the names that /v1/models lists; all mean the same model."
    )
    input: Text = Field(
        description="The text to speak: English, Chinese, or both mixed. A line break ends a "
        "sentence, except in a paragraph that was wrapped: one with lines of about one length that "
        "do not end as sentences do. Verses, lists and titles are none."
    )
    voice: Name | VoiceById | None = Field(
        default=None,
        description="The name of a saved or built-in voice, such as alloy. A built-in one is "
        "ignored where another field chooses the voice, since OpenAI's clients always send one.",
    )
    response_format: StreamFormat | None = Field(
        default="mp3",
        description="The format of the audio. pcm: 16 bits, little endian, mono, 24 kHz, no "
        "header.",
    )
    speed: Annotated[float, Field(ge=LEAST_SPEED, le=MOST_SPEED)] | Level | None = Field(
        default=None,
        description="Factor by which the finished speech is made faster; its pitch stays. Or how "
        "fast a designed voice speaks.",
    )
    instructions: str | None = Field(
        default=None,
        description="This model cannot follow any: they are ignored, and the header X-Unsupported "
        "says so.",
    )
    stream_format: StreamForm | None = Field(
        default="audio",
        description="audio: the bytes of the file as they are made. sse: the same bytes in "
        "server-sent events, speech.audio.delta and at last speech.audio.done with the usage.",
    )


# What OpenAI's fields stand for, and what would be stored: nothing is, at this route.
_ELSEWHERE = ("text", "turns", "voice", "speed")


def optional_fields(but: tuple[str, ...]) -> dict[str, Any]:
    """The fields of our own request `but` for these, each of which may be null, for a model."""
    return {
        name: (info.rebuild_annotation() | None, info)
        for name, info in SpeechRequest.model_fields.items()
        if name not in but
    }


OpenAISpeechFields: type[BaseModel] = create_model(
    "OpenAISpeechFields", __base__=_OpenAIFields, **optional_fields(_ELSEWHERE)
)


class DeltaEvent(BaseModel):
    """Some bytes of the audio."""

    type: Literal["speech.audio.delta"] = Field(description="Always speech.audio.delta.")
    audio: str = Field(description="The bytes in base64.")


class Usage(BaseModel):
    """What a request took."""

    input_tokens: int = Field(ge=0, description="The characters of the text.")
    output_tokens: int = Field(
        ge=0, description="The tokens that the language model made; 50 are one second of speech."
    )
    total_tokens: int = Field(ge=0, description="Both together.")


class DoneEvent(BaseModel):
    """The end of the audio."""

    type: Literal["speech.audio.done"] = Field(description="Always speech.audio.done.")
    usage: Usage = Field(description="What the request took.")
