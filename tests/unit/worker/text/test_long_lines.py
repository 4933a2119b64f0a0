"""Lines that take too long to say are cut, and nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.text.line import Line, Replacement
from worker.text.long_lines import MOST_SAID, cut
from worker.text.sentences import weigh
from worker.text.spoken.normalize import replacements

LONG = "We saw " + ", ".join(["1,234,567 of them"] * 12) + "."
CHINESE = "一共" + "1234567、" * 30


def line_of(text: str, language: str = "en") -> Line:
    return Line(text, replacements(text, language, "on"))


def test_a_line_of_an_ordinary_length_stays_whole() -> None:
    line = line_of("We saw 1,234,567 of them.")
    assert cut(line) == [line]


@pytest.mark.parametrize("line", [line_of(LONG), line_of(CHINESE, "zh"), line_of("1,234 " * 60)])
def test_what_takes_too_long_to_say_is_cut(line: Line) -> None:
    pieces = cut(line)
    assert len(pieces) > 1
    assert max(weigh(piece.said) for piece in pieces) <= MOST_SAID
    assert (
        " ".join(piece.said for piece in pieces).split() == line.said.split() or "、" in line.said
    )


def test_what_is_said_counts_and_not_what_is_written() -> None:
    line = line_of("We saw " + "1,234,567, " * 6 + "no more.")
    assert weigh(line.text) < MOST_SAID < weigh(line.said)
    assert len(cut(line)) > 1


def test_it_is_cut_behind_a_clause() -> None:
    assert {piece.text[-1] for piece in cut(line_of(LONG))} == {",", "."}
    assert {piece.text[-1] for piece in cut(line_of(CHINESE, "zh"))} == {"、"}


def test_no_replacement_is_parted() -> None:
    long = " ".join(["nine"] * 200)
    line = Line("It is 9999 now, and later 9 again.", (Replacement(6, 10, long),))
    pieces = cut(line)
    assert [piece for piece in pieces if long in piece.said]
    assert " ".join(piece.said for piece in pieces) == line.said


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["$1,299.99", "and", "9" * 30, "好，", "2024年", "x;", ""]), max_size=90
    ),
    TEXTS,
)
def test_the_text_and_its_replacements_stay(words: list[str], more: str) -> None:
    line = line_of(" ".join([*words, more]).strip())
    pieces = cut(line)
    assert "".join("".join(p.text.split()) for p in pieces) == "".join(line.text.split())
    assert sum(len(p.replacements) for p in pieces) == len(line.replacements)
    assert "".join("".join(p.said.split()) for p in pieces) == "".join(line.said.split())
    assert all(p.text == p.text.strip() != "" for p in pieces) or not line.text
