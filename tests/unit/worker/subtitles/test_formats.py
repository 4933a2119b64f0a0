"""The three formats, character by character."""

from __future__ import annotations

import ass
import pytest

from worker.subtitles.cues import Cue, CueWord
from worker.subtitles.formats import CONTENT_TYPES, Format, write
from worker.subtitles.style import SubtitleStyle

KARAOKE = SubtitleStyle(mode="karaoke")
LINE = SubtitleStyle()


def word(text: str, start: int, end: int, *, spaced: bool = True) -> CueWord:
    return CueWord(text, spaced, start, end)


def said(text: str, start: int = 0, end: int = 100) -> Cue:
    """A cue of one word."""
    return Cue(start, end, ((word(text, start, end, spaced=False),),))


TWO_LINES = Cue(
    100,
    400,
    (
        (word("One", 100, 150, spaced=False), word("two", 160, 200)),
        (word("three", 250, 300), word("!", 300, 320, spaced=False)),
    ),
)


def ass_texts(cues: list[Cue], style: SubtitleStyle) -> list[str]:
    return [event.text for event in ass.parse_string(write(cues, style, "ass")).events]


def test_content_types() -> None:
    assert CONTENT_TYPES == {
        "ass": "text/x-ssa",
        "srt": "application/x-subrip",
        "vtt": "text/vtt",
    }


@pytest.mark.parametrize("file_format", ["ass", "srt", "vtt"])
def test_a_byte_order_mark_comes_first_where_it_is_asked_for(file_format: Format) -> None:
    plain = write([TWO_LINES], LINE, file_format)
    assert not plain.startswith("\ufeff")
    assert write([TWO_LINES], LINE, file_format, bom=True) == f"\ufeff{plain}"


class TestSrt:
    def test_a_file(self) -> None:
        assert write([TWO_LINES, said("Next.", 1234, 6789)], LINE, "srt") == (
            "1\n00:00:01,000 --> 00:00:04,000\nOne two\nthree!\n"
            "\n2\n00:00:12,340 --> 00:01:07,890\nNext.\n"
        )

    def test_karaoke_is_the_same(self) -> None:
        assert write([TWO_LINES], KARAOKE, "srt") == write([TWO_LINES], LINE, "srt")

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("<b>", "<\u2060b>"),
            ("{\\an8}", "\uff5b\\\u2060an8\uff5d"),
            ("a&b>c", "a&b>c"),
            ("AT&T; co", "AT&\u2060T; co"),
            ("&lt;", "&\u2060lt;"),
            ("&#60;", "&\u2060#60;"),
            ("\\N", "\\\u2060N"),
            ("-->", "--\u2060>"),
            ("- >", "- \u2060>"),
            ("->", "->"),
            ("x>y", "x>y"),
            ("00:00:00,000", "00:00:\u206000,000"),
            ("0:07.5", "0:07.\u20605"),
            ("12:30:45", "12:30:\u206045"),
            ("7:30.", "7:30."),
            ("7:30", "7:30"),
            ("1999", "1999\u2060"),
            ("1999.", "1999."),
        ],
    )
    def test_marks_begin_no_tag_and_no_cue(self, text: str, written: str) -> None:
        assert write([said(text)], LINE, "srt").split("\n")[2] == written

    def test_nothing_gives_an_empty_file(self) -> None:
        assert write([], LINE, "srt") == ""


class TestVtt:
    def test_a_file(self) -> None:
        assert write([TWO_LINES, said("Next.", 1234, 6789)], LINE, "vtt") == (
            "WEBVTT\n"
            "\n00:00:01.000 --> 00:00:04.000\nOne two\nthree!\n"
            "\n00:00:12.340 --> 00:01:07.890\nNext.\n"
        )

    def test_nothing_gives_the_header_alone(self) -> None:
        assert write([], LINE, "vtt") == "WEBVTT\n"

    @pytest.mark.parametrize("style", [LINE, KARAOKE])
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("-->", "--&gt;"),
            ("<i>", "&lt;i&gt;"),
            ("&lt;", "&amp;lt;"),
            ("AT&T", "AT&amp;T"),
            ("{\\b1}", "{\\b1}"),
            ("00:07.000", "00:07.\u2060000"),
            ("1999", "1999\u2060"),
            ("7:30", "7:30"),
        ],
    )
    def test_marks_are_quoted(self, style: SubtitleStyle, text: str, written: str) -> None:
        assert write([said(text)], style, "vtt").split("\n")[3] == written

    def test_in_karaoke_each_word_but_the_first_has_its_time(self) -> None:
        assert write([TWO_LINES], KARAOKE, "vtt").split("\n")[3:5] == [
            "One <00:00:01.600>two",
            "<00:00:02.500>three<00:00:03.000>!",
        ]

    @pytest.mark.parametrize(
        ("starts", "line"),
        [
            ((100, 100, 300), "a b<00:00:03.000> c"),  # as the cue itself
            ((100, 200, 200), "a <00:00:02.000>b c"),  # as the word before
            ((100, 399, 400), "a <00:00:03.990>b c"),  # as the cue's end
            ((101, 102, 400), "<00:00:01.010>a <00:00:01.020>b c"),
        ],
    )
    def test_a_time_is_inside_of_its_cue_and_behind_the_one_before(
        self, starts: tuple[int, int, int], line: str
    ) -> None:
        words = [
            word(text, start, 400, spaced=text != "a")
            for text, start in zip("abc", starts, strict=True)
        ]
        expected = line.replace("b<00:00:03.000> c", "b <00:00:03.000>c")
        cue = Cue(100, 400, (tuple(words),))
        assert write([cue], KARAOKE, "vtt").split("\n")[3] == expected


class TestClock:
    @pytest.mark.parametrize(
        ("time", "written"),
        [
            (0, "00:00:00"),
            (99, "00:00:00"),
            (100, "00:00:01"),
            (5_999, "00:00:59"),
            (6_000, "00:01:00"),
            (359_999, "00:59:59"),
            (360_000, "01:00:00"),
            (366_123, "01:01:01"),
            (8_640_000, "24:00:00"),
        ],
    )
    def test_minutes_and_hours(self, time: int, written: str) -> None:
        milliseconds = f"{time % 100:02}0"
        for form, mark in (("srt", ","), ("vtt", ".")):
            text = write([said("x", time, time + 1)], LINE, form)
            assert f"\n{written}{mark}{milliseconds} --> " in text

    def test_ass_has_hours_too(self) -> None:
        dump = write([said("x", 366_123, 366_124)], LINE, "ass")
        assert "Dialogue: 0,1:01:01.23,1:01:01.24,Default," in dump


class TestAss:
    def test_the_script_s_own_settings(self) -> None:
        dump = write([], SubtitleStyle(resolution="1080x1920"), "ass").splitlines()
        for line in (
            "ScriptType: v4.00+",
            "WrapStyle: 0",
            "ScaledBorderAndShadow: yes",
            "PlayResX: 1080",
            "PlayResY: 1920",
        ):
            assert line in dump

    def test_each_setting_has_its_own_place(self) -> None:
        style = SubtitleStyle(
            primary_colour="#010203",
            secondary_colour="#040506",
            outline_colour="#070809",
            outline=2.5,
            size=33,
            resolution="2000x1000",
        )
        (look,) = ass.parse_string(write([], style, "ass")).styles
        assert look.name == "Default"
        colours = [
            (c.r, c.g, c.b, c.a)
            for c in (look.primary_color, look.secondary_color, look.outline_color)
        ]
        assert colours == [(1, 2, 3, 0), (4, 5, 6, 0), (7, 8, 9, 0)]
        assert (look.outline, look.shadow, look.fontsize) == (2.5, 0.0, 33.0)
        assert (look.margin_l, look.margin_r, look.margin_v) == (100, 100, 50)

    def test_the_size_is_written_where_none_is_given(self) -> None:
        (look,) = ass.parse_string(write([], LINE, "ass")).styles
        assert (look.fontname, look.fontsize) == ("Arial", 67.5)

    @pytest.mark.parametrize(("position", "key"), [("bottom", 2), ("middle", 5), ("top", 8)])
    def test_positions_are_those_of_the_keypad(self, position: str, key: int) -> None:
        style = SubtitleStyle.model_validate({"position": position})
        (look,) = ass.parse_string(write([], style, "ass")).styles
        assert look.alignment == key

    def test_lines_are_parted_by_a_hard_break(self) -> None:
        assert ass_texts([TWO_LINES], LINE) == ["One two\\Nthree!"]

    def test_in_karaoke_a_word_lasts_until_the_next_and_the_last_until_the_cue_s_end(self) -> None:
        assert ass_texts([TWO_LINES], KARAOKE) == ["{\\k60}One {\\k90}two\\N{\\k50}three{\\k100}!"]

    @pytest.mark.parametrize("style", [LINE, KARAOKE])
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("{\\b1}", "\\{{}\u2060\\\u2060b1}"),
            ("a\\Nb", "a\\\u2060Nb"),
            ("<b>&", "<b>&"),
            ("a,b", "a,b"),
        ],
    )
    def test_marks_begin_no_override(self, style: SubtitleStyle, text: str, written: str) -> None:
        (shown,) = ass_texts([said(text)], style)
        assert shown.removeprefix("{\\k100}") == written

    def test_every_event_is_of_the_one_style(self) -> None:
        events = ass.parse_string(write([TWO_LINES, said("x", 400, 500)], LINE, "ass")).events
        assert [event.style for event in events] == ["Default", "Default"]
        assert [event.TYPE for event in events] == ["Dialogue", "Dialogue"]
