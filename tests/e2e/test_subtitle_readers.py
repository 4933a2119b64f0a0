"""Other people's readers of subtitles find the text's words in our files, and nothing else.

ffmpeg reads all three formats; pysubs2 reads ASS and SubRip a second time, webvtt-py WebVTT.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import get_args

import pysubs2
import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.burn import ffmpeg
from tests.support.texts import TEXTS
from worker.subtitles.cues import Cue, cues
from worker.subtitles.formats import Format, write
from worker.subtitles.style import SubtitleStyle
from worker.text.words import split_words
from worker.timing.word_timing import SentenceSpan, WordTiming

JOINER = "\u2060"
Shown = list[tuple[int, int, str]]  # start and end in centiseconds, the lines

# What is a mark in one of the formats, or to one of their readers.
MARKS = [
    *("00:00:00,000", "-->", "09:00:00,000", "00:00:00,000 --> 09:00:00,000"),
    *("0:00:00,0 --> 9:0:0,0", "00:00:00.000", "09:00:00.000"),
    *("00:00:00.000 --> 09:00:00.000", "00:00:00,000-->09:00:00,000", "- >", "->", "--  >", "-- >"),
    *("from 00:00:00,000 to 09:00:00,000", "00:01.000 00:02.000", "12:30:45", "１２:００:００,０"),
    *("1", "2", "1999", "-1", "X1:0 X2:9", "line:0", "$$", "\ufeff", "\u200b", "\u00ad"),
    *("WEBVTT", "NOTE", "NOTE x", "STYLE", "REGION", "::cue", "[Script Info]", "[Events]"),
    *("Dialogue: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,x", "Style: Default,Arial,400", "!:", ";"),
    *("<b>", "</b>", "<i", "<3", "a<b", "x>y", "<c.red>", "<v Bob>", "<00:00:01.000>"),
    *("<font color='red'>x</font>", "&", "&lt;", "&lt;b&gt;", "&amp;", "&nbsp;", "&#60;", "&x;"),
    "<!-- x -->",
    *("{\\an8}", "{\\b1", "{hello}", "{", "}", "{}", "{{", "}}", "{Y:i}", "{c:$0000ff}", "{\\k50}"),
    *("\\N", "\\n", "\\h", "\\", "\\{", "\\}", "\\\\", "{*}", "{b}bold{/b}"),
]  # fmt: skip
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\f",
    "\v",
    "\t",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
    "\u3000",
]
HOSTILE = st.lists(
    st.tuples(
        st.sampled_from([*MARKS, "the", "boy", "我们今天"]), st.sampled_from([" ", "", *BREAKS])
    ),
    min_size=1,
    max_size=30,
).map(lambda parts: "".join(part + glue for part, glue in parts))
ANY = st.one_of(HOSTILE, TEXTS)
STYLES = st.builds(
    SubtitleStyle,
    mode=st.sampled_from(["line", "karaoke"]),
    max_columns=st.sampled_from([8, 20, 42, 120]),
)


def made_of(text: str, style: SubtitleStyle) -> list[Cue]:
    """Its cues, three words a second."""
    words = [
        WordTiming(word.text, 0.3 * i, 0.3 * i + 0.25, 0.9, 0, estimated=False)
        for i, word in enumerate(split_words(text))
    ]
    return cues(words, [SentenceSpan(text, 0.0, 0.3 * len(words))], style)


def plain(text: str) -> str:
    """What is seen: without word joiners, the look-alikes of SubRip as the braces that they are."""
    return text.replace(JOINER, "").replace("\uff5b", "{").replace("\uff5d", "}").strip()


def expected(made: list[Cue]) -> Shown:
    found = []
    for cue in made:
        lines = (
            "".join(f"{' ' if word.spaced and i else ''}{word.text}" for i, word in enumerate(line))
            for line in cue.lines
        )
        found.append((cue.start, cue.end, plain("\n".join(lines))))
    return found


def by_pysubs2(dump: str, file_format: Format) -> Shown:
    read = pysubs2.SSAFile.from_string(dump, file_format)
    return [(e.start // 10, e.end // 10, plain(e.plaintext)) for e in read.events]


def by_webvtt(dump: str) -> Shown:
    found = []
    for cue in webvtt.from_string(dump):
        text = html.unescape(re.sub(r"<[^>]*>", "", cue.raw_text))
        found.append((centiseconds(cue.start), centiseconds(cue.end), plain(text)))
    return found


def by_ffmpeg(dump: str, file_format: Format, folder: Path) -> Shown:
    """As ffmpeg hands it to libass, where only what stands in braces is a command."""
    file = folder / f"read.{file_format}"
    file.write_text(dump, encoding="utf-8", newline="")
    told = ffmpeg("-i", str(file), "-f", "ass", "-").decode()
    found = []
    for line in told.split("\n"):
        if not line.startswith("Dialogue:"):
            continue
        _, start, end, *_, text = line.rstrip("\r").split(",", 9)
        text = re.sub(r"\{\\kf?\d+\}", "", text).replace("\\{{}", "\0")
        assert "{" not in text, "a command of ASS, or words that it would hide"
        text = text.replace("\0", "{").replace("\\N", "\n")
        found.append((centiseconds(start), centiseconds(end), plain(text)))
    return found


def centiseconds(clock: str) -> int:
    hours, minutes, seconds = clock.split(":")
    whole, part = seconds.split(".")
    return (int(hours) * 3600 + int(minutes) * 60 + int(whole)) * 100 + int(part[:2])


@settings(deadline=None, max_examples=100)
@given(ANY, STYLES)
def test_two_readers_in_python_find_the_words_of_any_text(text: str, style: SubtitleStyle) -> None:
    made = made_of(text, style)
    wanted = expected(made)
    assert by_pysubs2(write(made, style, "srt"), "srt") == wanted
    assert by_webvtt(write(made, style, "vtt")) == wanted
    # It knows no brace but those of commands: a backslash stands in the place of one.
    slashed = [(start, end, shown.replace("{", "\\")) for start, end, shown in wanted]
    assert by_pysubs2(write(made, style, "ass"), "ass") == slashed
    if style.mode == "line":  # it takes two of karaoke's own times for a cue
        times = [(start, end) for start, end, _ in by_pysubs2(write(made, style, "vtt"), "vtt")]
        assert times == [(start, end) for start, end, _ in wanted]


@pytest.mark.parametrize("file_format", ["ass", "srt", "vtt"])
@pytest.mark.parametrize("mode", ["line", "karaoke"])
@pytest.mark.parametrize("columns", [8, 42])
def test_ffmpeg_finds_the_words_of_any_text(
    file_format: Format, mode: str, columns: int, tmp_path: Path
) -> None:
    style = SubtitleStyle.model_validate({"mode": mode, "max_columns": columns})
    for glue in (" ", "\n", " so\n\n", "，好 "):
        made = made_of(glue.join(MARKS), style)
        dump = write(made, style, file_format)
        assert by_ffmpeg(dump, file_format, tmp_path) == expected(made)


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("file_format", ["srt", "vtt"])
def test_a_mark_alone_is_one_caption_in_the_last_place_too(mark: str, file_format: Format) -> None:
    """A number there is one that no cue follows."""
    style = SubtitleStyle(max_columns=8)
    lines = made_of(mark, style)[0].lines
    made = [Cue(start, start + 80, lines) for start in (0, 100)]
    dump = write(made, style, file_format)
    read = by_webvtt(dump) if file_format == "vtt" else by_pysubs2(dump, "srt")
    assert read == expected(made)


def test_the_files_hold_no_mark_of_an_order_of_bytes() -> None:
    """Some readers take it for a character of the first line."""
    style = SubtitleStyle()
    made = made_of("\ufeffHello.", style)
    for file_format in get_args(Format):
        assert not write(made, style, file_format).startswith("\ufeff")


@pytest.mark.parametrize("name", ["Anna", "O'Brien (Jr.)", "小明", "12", "v.x_y-z"])
@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_every_reader_finds_who_speaks_or_leaves_it_out(
    name: str, mode: str, tmp_path: Path
) -> None:
    texts = ["Hello there, how are you?", "Well.", "That is good to hear from you."]
    spans = [
        SentenceSpan(text, 3.0 * i, 3.0 * i + 2, speaker=("default", name)[i % 2])
        for i, text in enumerate(texts)
    ]
    words = [
        WordTiming(word.text, 3.0 * i + 0.2 * n, 3.0 * i + 0.2 * n + 0.1, 0.9, i, estimated=False)
        for i, text in enumerate(texts)
        for n, word in enumerate(split_words(text))
    ]
    style = SubtitleStyle.model_validate({"mode": mode})
    made = cues(words, spans, style)
    wanted = expected(made)
    assert by_webvtt(write(made, style, "vtt")) == wanted
    assert [cue.voice for cue in webvtt.from_string(write(made, style, "vtt"))] == [
        "default",
        name,
        "default",
    ]
    assert by_ffmpeg(write(made, style, "vtt"), "vtt", tmp_path) == wanted
    assert by_pysubs2(write(made, style, "ass"), "ass") == wanted
    assert by_ffmpeg(write(made, style, "ass"), "ass", tmp_path) == wanted
    read = pysubs2.SSAFile.from_string(write(made, style, "ass"), "ass")
    assert [(e.name, e.style) for e in read.events][:2] == [("default", "Default"), (name, name)]
    named = [
        (start, end, f"{cue.speaker}: {text}")
        for cue, (start, end, text) in zip(made, wanted, strict=True)
    ]
    assert by_pysubs2(write(made, style, "srt"), "srt") == named
    assert by_ffmpeg(write(made, style, "srt"), "srt", tmp_path) == named


@pytest.mark.parametrize("file_format", ["ass", "srt", "vtt"])
def test_files_with_such_a_mark_are_read_the_same(file_format: Format, tmp_path: Path) -> None:
    """As the old players read them that it is for, and as those of today."""
    style = SubtitleStyle()
    made = made_of("今天天气很好。 The café is open.", style)
    dump = write(made, style, file_format, bom=True)
    assert dump == "\ufeff" + write(made, style, file_format)
    assert by_ffmpeg(dump, file_format, tmp_path) == expected(made)
    assert (tmp_path / f"read.{file_format}").read_bytes().startswith(b"\xef\xbb\xbf")
    if file_format == "vtt":
        file = tmp_path / "read.vtt"
        assert [cue.text for cue in webvtt.read(file)] == [shown for _, _, shown in expected(made)]
    else:
        without = (tmp_path / f"read.{file_format}").read_text(encoding="utf-8-sig")
        assert by_pysubs2(without, file_format) == expected(made)
