"""Tags of an audio file: what its maker says of it, and always that nobody spoke it.

The names are those of ffmpeg and of Vorbis comments, and the formats have their own for each: ID3
in mp3, Vorbis comments in flac, ogg and opus, MP4's atoms, LIST INFO in wav. pcm has none. There is
no date, so the same speech gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from worker.allowed_values import Allowed

MAX_WORDS = 200  # characters of one tag


def _words(words: str) -> str:
    words = words.strip()
    if not 1 <= len(words) <= MAX_WORDS or not words.isprintable():
        raise PydanticCustomError("words", "is no tag")
    return words


# Printable: no line breaks, control characters or halves of surrogate pairs.
Words = Annotated[
    str,
    AfterValidator(_words),
    Allowed(f"1 to {MAX_WORDS} characters in one line, without control characters"),
]


class Tags(BaseModel):
    """What a file says of itself, where its format can."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: Words | None = Field(default=None, description="The title.")
    artist: Words | None = Field(
        default=None,
        description="Who made it; when not given, the name of the voice, where the job has one in "
        "`voice` or `save_voice`, and neither `turns` nor `markup`.",
    )
    album: Words | None = Field(
        default=None, description="The album, series or book that it belongs to."
    )
    genre: Words | None = Field(default=None, description="The genre, such as Podcast.")
    track: int | None = Field(
        default=None, ge=1, le=9_999, description="The number in the album: of the chapter, say."
    )
    comment: Words | None = Field(
        default=None, description="Anything else; the mark of synthetic speech follows on it."
    )
    copyright: Words | None = Field(default=None, description="Whose rights it is under.")


def words_of(tags: Tags, *, voice: str | None, model: str) -> Mapping[str, str]:
    """The tags of a file, by their names: those given, and the mark that a model made the speech.

    `voice` is the name of the voice, where it has one.
    """
    words = {name: str(value) for name, value in tags if value is not None}
    if voice is not None:
        words.setdefault("artist", voice)
    mark = f"Synthetic speech, made by AI ({model})"
    words["comment"] = f"{words['comment']} | {mark}" if "comment" in words else mark
    return words
