"""The style of subtitles: the few settings that a job may choose, each checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Annotated, Literal, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints

from worker.allowed_values import Allowed

MAX_COLUMNS = 42  # a line, as broadcasters count; a Chinese character is two
_WIDEST_COLUMN = 0.5  # of the font size; a Latin letter's mean width is about 0.45
_SAFE_PART = 0.9  # of the frame's width that text may take

MAX_COLOURS = 64  # of speakers
# Of speakers, in the order of their first words; the first four are those of teletext.
SPEAKER_COLOURS = (
    "#FFFFFF", "#FFFF00", "#00FFFF", "#00FF00", "#FFA64D", "#FF8FD8", "#B8A1FF", "#C8E86B",
)  # fmt: skip

Mode = Literal["line", "karaoke"]
Position = Literal["bottom", "middle", "top"]
Colour = Annotated[
    str,
    StringConstraints(pattern=r"^#[0-9A-Fa-f]{6}$"),
    Allowed("#RRGGBB, two hexadecimal digits each for red, green and blue"),
]
SpeakerColours = Annotated[
    dict[str, Colour],
    Field(max_length=MAX_COLOURS),
    Allowed(f"an object of up to {MAX_COLOURS} speakers' names, each with its #RRGGBB"),
]
Font = Annotated[
    str,
    StringConstraints(pattern=r"^\w[\w .-]{0,63}$"),
    Allowed("the name of a font: 1 to 64 letters, digits, spaces, dots and hyphens"),
]
Resolution = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9]\d{2,3}x[1-9]\d{2,3}$"),
    Allowed("WIDTHxHEIGHT in pixels, 100 to 9999 each, such as 1080x1920"),
]


class SubtitleStyle(BaseModel):
    """The look of the subtitles. Sizes are pixels of a video of `resolution`.

    SubRip and WebVTT files have no fonts and colours: only what breaks lines matters there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    mode: Mode = Field(
        default="line",
        description="line: the whole caption at once; karaoke: each word lights up when spoken.",
    )
    font: Font = Field(
        default="Arial",
        examples=["Noto Sans CJK SC"],
        description="Font family; a player that lacks it takes another.",
    )
    size: float | None = Field(
        default=None,
        ge=8,
        le=400,
        description="Font size; a sixteenth of the shorter side when not given.",
    )
    primary_colour: Colour = Field(
        default="#FFFFFF",
        examples=["#FFD700"],
        validation_alias=AliasChoices("primary_colour", "primary_color"),
        description="Colour of the text; in karaoke, of what has been spoken.",
    )
    secondary_colour: Colour = Field(
        default="#9A9A9A",
        examples=["#9A9A9A"],
        validation_alias=AliasChoices("secondary_colour", "secondary_color"),
        description="In karaoke, colour of what has not been spoken yet.",
    )
    outline_colour: Colour = Field(
        default="#000000",
        validation_alias=AliasChoices("outline_colour", "outline_color"),
        examples=["#202020"],
        description="Colour of the outline.",
    )
    outline: float = Field(default=3.0, ge=0, le=20, description="Width of the outline.")
    position: Position = Field(default="bottom", description="Where in the frame the text stands.")
    resolution: Resolution = Field(
        default="1920x1080",
        examples=["1080x1920"],
        description="Size of the video.",
    )
    speaker_colours: SpeakerColours | None = Field(
        default=None,
        validation_alias=AliasChoices("speaker_colours", "speaker_colors"),
        description="Colour of the text of each speaker, in place of `primary_colour`; those that "
        "are not named have colours of their own.",
    )
    speaker_names: bool = Field(
        default=True,
        description="In SubRip, whether a line begins with the speaker's name where that changes.",
    )
    max_columns: int | None = Field(
        default=None,
        ge=8,
        le=120,
        description="Most columns of a line, of which a Chinese character takes two; "
        f"{MAX_COLUMNS} when not given, fewer where the frame is narrow.",
    )

    def colours(self, speakers: Sequence[str | None]) -> list[str]:
        """The colour of each speaker: the first one's is primary_colour, where none is given."""
        given = self.speaker_colours or {}
        taken = {self.primary_colour.upper(), *(colour.upper() for colour in given.values())}
        others = cycle([colour for colour in SPEAKER_COLOURS if colour not in taken] or ["#FFFFFF"])
        first = iter([self.primary_colour])
        return [
            given[speaker] if speaker in given else next(first, None) or next(others)
            for speaker in speakers
        ]

    @property
    def frame(self) -> tuple[int, int]:
        """Width and height of the video in pixels."""
        width, height = self.resolution.split("x")
        return int(width), int(height)

    @property
    def font_size(self) -> float:
        """The font's size in pixels."""
        return self.size or min(self.frame) / 16

    @property
    def columns(self) -> int:
        """The columns that a line may have, so that it is inside of the frame."""
        fitting = int(_SAFE_PART * self.frame[0] / (_WIDEST_COLUMN * self.font_size))
        return max(2, min(self.max_columns or MAX_COLUMNS, fitting))


MODES: tuple[str, ...] = get_args(Mode)
