"""Subtitles of several speakers: no cue has two, and each format says who speaks in its way."""

from __future__ import annotations

import re

import ass
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.subtitles.cues import Cue, columns, cues
from worker.subtitles.formats import write
from worker.subtitles.style import SPEAKER_COLOURS, SubtitleStyle
from worker.timing.word_timing import SentenceSpan, WordTiming

Said = list[tuple[str | None, str]]


def made_of(said: Said, style: SubtitleStyle | None = None, gap: float = 0.3) -> list[Cue]:
    """The cues of sentences, five words a second, each with its speaker."""
    words: list[WordTiming] = []
    spans: list[SentenceSpan] = []
    at = 0.0
    for index, (speaker, text) in enumerate(said):
        start = at
        for word in text.split():
            words.append(WordTiming(word, at, at + 0.2, 0.9, index, estimated=False))
            at += 0.2
        spans.append(SentenceSpan(text, start, at, speaker=speaker))
        at += gap
    return cues(words, spans, style or SubtitleStyle())


def text_of(cue: Cue) -> str:
    return " ".join(word.text for line in cue.lines for word in line)


DIALOGUE: Said = [("Anna", "Hi."), ("Bob", "Ho."), ("Bob", "Yes."), ("Anna", "No!")]


def test_short_sentences_of_two_speakers_are_no_one_cue() -> None:
    made = made_of(DIALOGUE, gap=0.0)
    assert [(cue.speaker, text_of(cue)) for cue in made] == [
        ("Anna", "Hi."),
        ("Bob", "Ho. Yes."),
        ("Anna", "No!"),
    ]
    assert [text_of(cue) for cue in made_of([(None, text) for _, text in DIALOGUE], gap=0.0)] == [
        "Hi. Ho. Yes. No!"
    ]


WORDS = st.lists(st.sampled_from(["a", "word", "longer,", "end."]), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "A", "Bob"]), WORDS), min_size=1, max_size=6),
    st.sampled_from([20, 42]),
    st.sampled_from([0.0, 0.3, 3.0]),
)
def test_a_cue_has_one_speaker_and_room_for_the_name(
    said: list[tuple[str | None, list[str]]], most: int, gap: float
) -> None:
    style = SubtitleStyle(max_columns=most)
    given_words = [(speaker, " ".join(words)) for speaker, words in said]
    made = made_of(given_words, style, gap)
    spoken = [(word.speaker, word.text) for cue in made for line in cue.lines for word in line]
    assert spoken == [(speaker, word) for speaker, words in said for word in words]
    for cue in made:
        assert {word.speaker for line in cue.lines for word in line} == {cue.speaker}
    dump = write(made, style, "srt")
    assert all(columns(line) <= most for line in dump.split("\n") if "-->" not in line)


def test_subrip_has_the_name_where_the_speaker_changes() -> None:
    dump = write(made_of([*DIALOGUE, ("Anna", "A new one.")], gap=2.0), SubtitleStyle(), "srt")
    lines = [line for line in dump.split("\n") if re.search("[a-z]", line)]
    assert lines == ["Anna: Hi.", "Bob: Ho.", "Yes.", "Anna: No!", "A new one."]
    style = SubtitleStyle(speaker_names=False)
    assert "Anna" not in write(made_of(DIALOGUE, style), style, "srt")


@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_webvtt_has_a_voice_for_each_cue(mode: str) -> None:
    style = SubtitleStyle.model_validate({"mode": mode})
    dump = write(made_of(DIALOGUE, style), style, "vtt")
    assert re.findall(r"^<v (\w+)>", dump, re.MULTILINE) == ["Anna", "Bob", "Anna"]
    assert "<v" not in write(made_of([(None, "Hi.")], style), style, "vtt")


def colours_of(style: SubtitleStyle, said: Said) -> dict[str, str]:
    document = ass.parse_string(write(made_of(said, style), style, "ass"))
    events = {event.style for event in document.events}
    assert events == {one.name for one in document.styles}
    return {
        one.name: f"#{one.primary_color.r:02X}{one.primary_color.g:02X}{one.primary_color.b:02X}"
        for one in document.styles
    }


def test_ass_has_a_style_for_each_speaker() -> None:
    assert colours_of(SubtitleStyle(), [("default", "Once."), *DIALOGUE]) == {
        "Default": "#FFFFFF",
        "Anna": "#FFFF00",
        "Bob": "#00FFFF",
    }
    assert colours_of(SubtitleStyle(primary_colour="#ffff00"), DIALOGUE) == {
        "Anna": "#FFFF00",
        "Bob": "#FFFFFF",
    }
    style = SubtitleStyle(speaker_colours={"Bob": "#123456", "Eve": "#00FF00"})
    assert colours_of(style, DIALOGUE) == {"Anna": "#FFFFFF", "Bob": "#123456"}
    assert colours_of(style, [(None, "Hi.")]) == {"Default": "#FFFFFF"}


def test_many_speakers_have_different_colours_as_long_as_there_are_some() -> None:
    names = [f"S{n}" for n in range(20)]
    colours = SubtitleStyle().colours(names)
    assert len(colours) == 20
    assert len(set(colours[: len(SPEAKER_COLOURS)])) == len(SPEAKER_COLOURS)


@pytest.mark.parametrize(
    "colours", [{"A": "red"}, {"A": 1}, {str(n): "#000000" for n in range(65)}]
)
def test_a_colour_of_a_speaker_is_one(colours: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SubtitleStyle.model_validate({"speaker_colours": colours})
    assert SubtitleStyle.model_validate({"speaker_colors": {"A": "#000000"}}).speaker_colours
