"""Cues and their files, for any text: order, coverage, times, karaoke sums, no tag born of text."""

from __future__ import annotations

import re
from itertools import pairwise

import ass
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.texts import TEXTS
from worker.subtitles.cues import MAX_SECONDS, Cue, columns, cues
from worker.subtitles.formats import write
from worker.subtitles.style import SubtitleStyle
from worker.text.words import has_han, split_words
from worker.timing.word_timing import SentenceSpan, WordTiming

# The tags that the writer makes; any other unescaped brace would be an override from the text.
KARAOKE = re.compile(r"(?<!\\)\{\\k(\d+)\}")
BRACE = re.compile(r"(?<!\\)\{")
COMMAND = re.compile(r"\\[NnhH]")


def timed(sentences: list[str], speed: float = 14.0) -> tuple[list[WordTiming], list[SentenceSpan]]:
    """Words spoken at an even speed, in letters a second, with pauses between sentences."""
    words: list[WordTiming] = []
    spans: list[SentenceSpan] = []
    at = 0.1
    for i, text in enumerate(sentences):
        start = at
        for word in split_words(text):
            lasting = len(word.text) * (2.5 if has_han(word.text) else 1.0) / speed
            words.append(WordTiming(word.text, at, at + lasting, 0.9, i, estimated=False))
            at += lasting + 0.04
        spans.append(SentenceSpan(text, start, at))
        at += 0.3
    return words, spans


def shown(cue: Cue) -> list[str]:
    """The lines of a cue as text."""
    return [
        "".join(f"{' ' if w.spaced and i else ''}{w.text}" for i, w in enumerate(line))
        for line in cue.lines
    ]


STYLES = st.builds(
    SubtitleStyle,
    mode=st.sampled_from(["line", "karaoke"]),
    max_columns=st.none() | st.integers(8, 60),
    resolution=st.sampled_from(["1920x1080", "1080x1920", "320x240"]),
)
SPEECH = st.tuples(st.lists(TEXTS, max_size=4), st.sampled_from([0.5, 14.0, 3000.0]))


@settings(deadline=None)
@given(SPEECH, STYLES)
def test_cues(speech: tuple[list[str], float], style: SubtitleStyle) -> None:
    words, spans = timed(*speech)
    made = cues(words, spans, style)
    text = "".join("".join(shown(cue)) for cue in made)
    assert "".join(text.split()) == "".join("".join(span.text for span in spans).split())
    assert all(1 <= len(cue.lines) <= 2 for cue in made)
    assert all(columns(line) <= style.columns for cue in made for line in shown(cue))
    assert all(cue.start < cue.end for cue in made)
    assert all(before.end <= after.start for before, after in pairwise(made))
    for cue in made:
        inside = [word for line in cue.lines for word in line]
        edges = [cue.start, *(edge for w in inside for edge in (w.start, w.end)), cue.end]
        assert edges == sorted(edges)
    dump = {form: write(made, style, form) for form in ("ass", "srt", "vtt")}
    check_ass(dump["ass"], made, style)
    assert blocks(dump["srt"], ",") == [(cue.start, cue.end) for cue in made]
    assert blocks(dump["vtt"], ".") == [(cue.start, cue.end) for cue in made]


def check_ass(dump: str, made: list[Cue], style: SubtitleStyle) -> None:
    events = ass.parse_string(dump).events
    assert len(events) == len(made)
    for event, cue in zip(events, made, strict=True):
        assert round(event.start.total_seconds() * 100) == cue.start
        assert round(event.end.total_seconds() * 100) == cue.end
        lasting = [int(time) for time in KARAOKE.findall(event.text)]
        if style.mode == "karaoke":
            assert sum(lasting) == cue.end - cue.start
            assert len(lasting) == sum(map(len, cue.lines))
        else:
            assert not lasting
        text = KARAOKE.sub("", event.text).replace("\\{{}", "\\{")
        assert not BRACE.search(text)
        assert len(COMMAND.findall(text)) == len(cue.lines) - 1
        plain = text.replace("\\N", "\n").replace("\u2060", "")
        plain = plain.replace("\\{", "{")
        assert plain == "\n".join(shown(cue)).replace("\u2060", "")


def blocks(dump: str, mark: str) -> list[tuple[int, int]]:
    """The times of an SRT or VTT file's blocks, in centiseconds; fails where one is malformed."""
    clock = rf"(\d\d):(\d\d):(\d\d){re.escape(mark)}(\d\d)0"
    found = []
    parts = dump.split("\n\n") if dump else []
    for number, block in enumerate(parts[1:] if dump.startswith("WEBVTT") else parts, 1):
        lines = block.rstrip("\n").split("\n")
        if mark == ",":
            assert lines.pop(0) == str(number)
        match = re.fullmatch(f"{clock} --> {clock}", lines[0])
        assert match, lines[0]
        assert 1 <= len(lines) - 1 <= 2
        start, end = (
            int(h) * 360_000 + int(m) * 6000 + int(s) * 100 + int(c)
            for h, m, s, c in (match.groups()[:4], match.groups()[4:])
        )
        assert not re.search(r"<(?!\u2060|\d\d:)", "\n".join(lines[1:]))
        found.append((start, end))
    return found


def test_20_000_characters_are_laid_out() -> None:
    words, spans = timed(["The quick brown fox jumps over the lazy dog, again. " * 380])
    made = cues(words, spans, SubtitleStyle())
    assert sum(len(line) for cue in made for line in cue.lines) == len(words)
    assert max(cue.end - cue.start for cue in made) <= 100 * MAX_SECONDS + 100


def test_lines_break_at_clauses_and_no_word_stands_alone() -> None:
    text = (
        "When the weather is fine, we walk along the river, and sometimes we take the old wooden "
        "bridge near the mill, where the water is deep. Yes. It is a long way from our home."
    )
    words, spans = timed(re.split(r"(?<=\.) ", text))
    made = [shown(cue) for cue in cues(words, spans, SubtitleStyle())]
    assert ["When the weather is fine,", "we walk along the river,"] in made
    assert all(" " in line for lines in made for line in lines)
    assert " ".join(line for lines in made for line in lines) == text


def test_chinese_lines_have_no_spaces_and_count_two_columns_a_character() -> None:
    words, spans = timed(
        ["今天天气很好，我们去“北京大学”图书馆看书，然后回家吃晚饭，晚上还要写作业。"]
    )
    made = [shown(cue) for cue in cues(words, spans, SubtitleStyle())]
    assert all(columns(line) <= 42 and " " not in line for lines in made for line in lines)
    assert made[-1][-1].endswith("作业。")
    assert all(lines[-1][-1] in "，。" for lines in made)


def test_a_cue_stays_until_it_is_read_where_there_is_room() -> None:
    words = [WordTiming("Go!", 0.0, 0.2, 0.9, 0, estimated=False)]
    words += [WordTiming("Stop!", 9.0, 9.2, 0.9, 1, estimated=False)]
    spans = [SentenceSpan("Go!", 0.0, 0.3), SentenceSpan("Stop!", 9.0, 9.3)]
    first, last = cues(words, spans, SubtitleStyle())
    assert (first.start, first.end) == (0, 100)
    assert (last.start, last.end) == (900, 930)


def test_karaoke_in_vtt_has_a_timestamp_before_each_word_but_the_first() -> None:
    words, spans = timed(["One two three."])
    dump = write(cues(words, spans, SubtitleStyle()), SubtitleStyle(mode="karaoke"), "vtt")
    assert re.search(r"\nOne <00:00:00\.350>two <00:00:00\.610>three\.\n", dump)


def test_the_style_is_written() -> None:
    style = SubtitleStyle(
        font="Noto Sans SC",
        size=40,
        primary_colour="#12abEF",
        position="top",
        outline=1.5,
        resolution="1280x720",
    )
    document = ass.parse_string(write([], style, "ass"))
    (look,) = document.styles
    assert (look.fontname, look.fontsize, look.outline, look.alignment) == (
        ("Noto Sans SC", 40.0, 1.5, 8)
    )
    colour = look.primary_color
    assert (colour.r, colour.g, colour.b, colour.a) == (0x12, 0xAB, 0xEF, 0)
    assert (int(document.play_res_x), int(document.play_res_y)) == (1280, 720)


@pytest.mark.parametrize(
    "setting",
    [
        {"font": "Arial,1"},
        {"font": "A\nDialogue: x"},
        {"font": ""},
        {"primary_colour": "red"},
        {"primary_colour": "#12345"},
        {"primary_colour": "&H00FFFFFF"},
        {"size": 4000},
        {"size": float("nan")},
        {"outline": -1},
        {"position": "left"},
        {"resolution": "0x0"},
        {"resolution": "1920x1080\n"},
        {"max_columns": 3},
        {"mode": "disco"},
        {"shadow": 3},
    ],
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SubtitleStyle.model_validate(setting)


def test_colours_may_be_spelled_in_american() -> None:
    assert SubtitleStyle.model_validate({"primary_color": "#ff0000"}).primary_colour == "#ff0000"
