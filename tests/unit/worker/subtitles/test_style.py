"""The look's settings at their limits, and what follows from them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from worker.subtitles.style import SubtitleStyle


def test_the_defaults_are_those_of_the_documents() -> None:
    assert SubtitleStyle().model_dump() == {
        "mode": "line",
        "font": "Arial",
        "size": None,
        "primary_colour": "#FFFFFF",
        "secondary_colour": "#9A9A9A",
        "outline_colour": "#000000",
        "outline": 3.0,
        "position": "bottom",
        "resolution": "1920x1080",
        "speaker_colours": None,
        "speaker_names": True,
        "max_columns": None,
    }


@pytest.mark.parametrize(
    ("resolution", "size", "pixels"),
    [
        ("1920x1080", None, 67.5),
        ("1080x1920", None, 67.5),
        ("1280x720", None, 45.0),
        ("1920x1080", 40, 40.0),
    ],
)
def test_a_size_is_a_sixteenth_of_the_shorter_side_where_none_is_given(
    resolution: str, size: float | None, pixels: float
) -> None:
    assert SubtitleStyle(resolution=resolution, size=size).font_size == pixels


def test_the_frame_is_width_and_height() -> None:
    assert SubtitleStyle(resolution="1080x1920").frame == (1080, 1920)


@pytest.mark.parametrize(
    ("resolution", "size", "wanted", "columns"),
    [
        ("1920x1080", None, None, 42),  # 0.9 * 1920 / 33.75 = 51 would fit
        ("1920x1080", None, 50, 50),
        ("1920x1080", None, 51, 51),
        ("1920x1080", None, 60, 51),
        ("1920x1080", None, 10, 10),
        ("1080x1920", None, None, 28),  # 0.9 * 1080 / 33.75 = 28.8
        ("1080x1920", None, 40, 28),
        ("1920x1080", 20, None, 42),
        ("1920x1080", 20, 120, 120),
        ("100x100", 400, None, 2),  # not even one would fit; a Chinese character needs two
    ],
)
def test_a_line_has_as_many_columns_as_are_wanted_and_fit(
    resolution: str, size: float | None, wanted: int | None, columns: int
) -> None:
    style = SubtitleStyle(resolution=resolution, size=size, max_columns=wanted)
    assert style.columns == columns


@pytest.mark.parametrize(
    ("field", "fitting", "others"),
    [
        ("size", [8, 400], [7.9, 400.1]),
        ("outline", [0, 20], [-0.1, 20.1]),
        ("max_columns", [8, 120], [7, 121]),
        ("resolution", ["100x100", "9999x9999"], ["99x100", "100x99", "10000x100", "100x10000"]),
        ("font", ["A", "A" * 64, "Noto Sans-CJK.SC"], ["A" * 65, " Arial", "{Arial}"]),
        ("primary_colour", ["#00ffAA"], ["#00ffA", "#00ffAAA", "00ffAA", "#00ffAG"]),
        ("position", ["bottom", "middle", "top"], ["Bottom"]),
        ("mode", ["line", "karaoke"], ["lines"]),
    ],
)
def test_settings_are_taken_up_to_their_limits(
    field: str, fitting: list[object], others: list[object]
) -> None:
    for value in fitting:
        assert getattr(SubtitleStyle.model_validate({field: value}), field) == value
    for value in others:
        with pytest.raises(ValidationError):
            SubtitleStyle.model_validate({field: value})


@pytest.mark.parametrize("name", ["primary", "secondary", "outline"])
def test_each_colour_has_both_spellings(name: str) -> None:
    for spelling in ("colour", "color"):
        style = SubtitleStyle.model_validate({f"{name}_{spelling}": "#123456"})
        given = {n: getattr(style, f"{n}_colour") for n in ("primary", "secondary", "outline")}
        defaults = {"primary": "#FFFFFF", "secondary": "#9A9A9A", "outline": "#000000"}
        assert given == defaults | {name: "#123456"}
