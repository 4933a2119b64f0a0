"""What holds for what is said of any text: in order, nothing twice, no digit left."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.text.line import Line
from worker.text.spoken.normalize import Normalize, replacements
from worker.text.spoken.word_groups import MAX_READINGS, word_groups
from worker.text.words import has_han, split_words

_PIECES = st.sampled_from(
    [
        *(
            "1987",
            "2,024-2,030",
            "$14.8 billion",
            "€3.50",
            "5 km",
            "20 °C",
            "-5℃",
            "50%",
            "½",
            "x²",
        ),
        *("May 5, 2024", "5 May", "7:30 p.m.", "10:30", "2024-05-06", "12/25/2025", "2/3", "24/7"),
        *("+44 20 7946 0958", "555-867-5309", "4111 1111 1111 1111", "v2.0.1", "192.168.0.1"),
        *(
            "bob@x.co",
            "www.example.com/a_b",
            "https://x.org/?a=1&b=2",
            "IPv6",
            "COVID-19",
            "A1B2C3",
        ),
        *("Chapter IV", "Henry VIII", "MMXXIV", "No. 5", "#5", "p. 12", "Dr. Smith", "Elm St."),
        *("5'11\"", "100k", "£1.2bn", "1990s", "'80s", "21st", "3 × 4 = 12", "±2", "≈3", "AT&T"),
        *("2024年5月6日", "3点45分", "13800138000", "￥12.50", "第3章", "买了3个iPhone 15", "2个"),
        *(
            "①",
            "⁵",
            "５０％",
            "٣",
            "१२",
            "₂",
            "⑳",
            "🄂",
            "1,2,3",
            "1.2.3.4.5",
            "0x1F",
            "--5--",
            "1e6",
        ),
        *(
            "and",
            "people",
            "in",
            "the",
            "of",
            "the",
            "总共",
            "，",
            "。",
            ".",
            ",",
            "-",
            "–",
            "(",
            ")",
        ),
    ]
)
_CHANCE = st.text("0123456789.,:/-$%° akm年月", max_size=8)
_GLUE = st.sampled_from([" ", ", ", ""])
NUMBERS = st.lists(st.tuples(st.one_of(_PIECES, _CHANCE), _GLUE), max_size=12)
ANY = st.one_of(NUMBERS.map(lambda parts: "".join(part + glue for part, glue in parts)), TEXTS)
APART = st.lists(_PIECES, max_size=12).map(", ".join)
LANGUAGES = st.sampled_from(["en", "zh"])
MODES = st.sampled_from(["auto", "on"])


def without_han(text: str) -> str:
    """A text in one language: in a mixed one, words that are put in decide which it is."""
    return "".join(char for char in text if not has_han(char))


def said(text: str, language: str, mode: Normalize) -> str:
    return Line(text, replacements(text, language, mode)).said


@settings(max_examples=150, deadline=None)
@given(ANY, LANGUAGES, MODES)
def test_replacements_are_in_order_and_within_the_text(
    text: str, language: str, mode: Normalize
) -> None:
    done = 0
    for one in replacements(text, language, mode):
        assert done <= one.start < one.end <= len(text)
        assert one.said != text[one.start : one.end]
        done = one.end


@settings(max_examples=150, deadline=None)
@given(ANY, LANGUAGES)
@example("Iv¹", "en")
def test_on_leaves_no_digit(text: str, language: str) -> None:
    left = [char for char in said(text, language, "on") if char.isdigit()]
    assert left == []


@settings(max_examples=150, deadline=None)
@given(APART.map(without_han), st.just("en"), MODES)
def test_what_is_said_has_nothing_left_to_be_put_in_words(
    text: str, language: str, mode: Normalize
) -> None:
    once = said(text, language, mode)
    assert said(once, language, mode) == once


@settings(max_examples=100, deadline=None)
@given(ANY, LANGUAGES)
def test_auto_does_what_on_does_or_nothing(text: str, language: str) -> None:
    everything = replacements(text, language, "on")
    assert set(replacements(text, language, "auto")) <= set(everything)
    assert replacements(text, language, "off") == ()


@settings(max_examples=100, deadline=None)
@given(ANY, LANGUAGES, st.booleans())
def test_all_words_are_in_groups_whose_readings_fit_them(
    text: str, language: str, normalized: bool
) -> None:
    done = replacements(text, language, "on") if normalized else ()
    words, groups = word_groups(text, language, done)
    assert words == split_words(text)
    assert sum(group.count for group in groups) == len(words)
    for group in groups:
        assert len(group.readings) <= MAX_READINGS
        for reading in group.readings:
            assert len(reading) == group.count
            assert any(reading)
            assert all(char.isalpha() or char in "' " for part in reading for char in part)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "unit", ["1", "1,", "1.", "1-", "a@", "$", "I", "1/", "1:", "a.", "年1", "-1 ", "+1 "]
)
def test_a_long_text_of_one_kind_is_read(unit: str, language: str) -> None:
    text = unit * 3000
    assert not any(map(str.isdigit, said(text, language, "on")))
