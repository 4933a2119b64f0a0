"""Lines to paragraphs: bare numbers, marks, and lines that come in parts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.paragraphs import LONGEST_MARKS, ParagraphReader, Part
from worker.text.sentences import split


@pytest.mark.parametrize(
    "number",
    [
        "02",
        "2",
        "1984",
        "2.",
        "(3)",
        "[4]",
        "- 5 -",
        "3/12",
        "1.2.3",
        "§ 7",
        "IV",
        "XII.",
        "a)",
        "B.",
    ],
)
def test_a_bare_number_goes_to_the_line_that_follows(number: str) -> None:
    pieces = ["Thank you for that.", f"{number} The committee met again."]
    assert split(f"Thank you for that.\n{number}\nThe committee met again.") == pieces
    assert split(f"Thank you for that.\n\n{number}\n\nThe committee met again.") == pieces


@pytest.mark.parametrize("number", ["三", "（三）", "十二、"])
def test_so_does_a_chinese_one(number: str) -> None:
    assert split(f"谢谢你们大家。\n{number}\n我们走吧朋友们。") == [
        "谢谢你们大家。",
        f"{number} 我们走吧朋友们。",
    ]


def test_a_bare_number_at_the_end_goes_to_the_line_before() -> None:
    assert split("Thank you for that.\n02") == ["Thank you for that. 02"]
    assert split("02\nThank you.\n\n03\n") == ["02 Thank you. 03"]
    assert split("***\n02") == ["*** 02"]
    assert split("02") == ["02"]


@pytest.mark.parametrize(
    "words", ["Page 2", "Two", "1984 was warm", "2024-05-06", "5550123", "MIX", "B"]
)
def test_these_are_sentences_of_their_own(words: str) -> None:
    assert split(f"Thank you for that.\n{words}\nWe all met again.") == [
        "Thank you for that.",
        words,
        "We all met again.",
    ]


def test_numbers_that_are_counted_are_one_sentence_with_what_follows() -> None:
    assert split("3\n2\n1\nHere we go!") == ["3 2 1 Here we go!"]


def test_a_column_of_numbers_is_a_sentence() -> None:
    pieces = split("Rain in mm:\n" + "12\n" * 20 + "That was all.")
    assert pieces[0] == "Rain in mm:"
    assert pieces[1] == " ".join(["12"] * 9)
    assert pieces[-1] == "12 12 That was all."


def test_marks_go_with_the_number_that_waits() -> None:
    assert split("Thank you for that.\n02\n***\nWe all met again.") == [
        "Thank you for that.",
        "02 *** We all met again.",
    ]


def test_a_number_within_a_wrapped_sentence_stays_in_it() -> None:
    text = "He was never again seen in the town after the very cold winter of"
    assert split(f"{text}\n1984\nand nobody missed him.") == [
        f"{text} 1984",
        "and nobody missed him.",
    ]


def parts_of(lines: list[str], length: int) -> list[Part]:
    reader, parts = ParagraphReader(), []
    for line in lines:
        for i in range(0, len(line), length):
            parts += reader.feed(line[i : i + length], ends_line=False)
        parts += reader.feed("", ends_line=True)
    return parts + reader.end()


def paragraphs(parts: list[Part]) -> list[str]:
    given: list[str] = []
    for part in parts:
        if part.begins:
            given.append("")
        given[-1] = given[-1][: len(given[-1]) - part.drop] + part.text
    return given


LINES = st.sampled_from(
    [
        *(
            "",
            "02",
            "IV.",
            "***",
            "> ",
            "> the old",
            "Bath",
            "A short line",
            "1. Buy milk",
            "图书馆",
        ),
        "The committee met again in the spring and decided to move to",
        "London before the end of the year, because of the well-",
        "known rent. It was far too high. Nobody had asked the people of",
        "从下个星期开始，城里的图书馆每天晚上都会开放到九点，学生可以免费借",
        "书，老人可以在一楼看报纸。大家都说这是一件好事，因为以前下班",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=12), st.integers(1, 30))
def test_lines_that_come_in_parts_give_the_same(lines: list[str], length: int) -> None:
    assert paragraphs(parts_of(lines, length)) == paragraphs(parts_of(lines, 10_000))


def test_after_the_end_a_new_text_begins() -> None:
    reader = ParagraphReader()
    reader.feed("The committee met again in the spring and moved the office to", ends_line=True)
    assert reader.end() == []
    assert reader.feed("London town", ends_line=False) == [Part("London town", begins=True)]


@pytest.mark.parametrize("line", ["*", "> ", ">", "- "])
def test_a_line_of_marks_is_waited_for_no_longer_than_needed(line: str) -> None:
    reader = ParagraphReader()
    reader.feed("A word.", ends_line=True)
    most = 0
    for _ in range(2 * LONGEST_MARKS):
        reader.feed(line, ends_line=False)
        most = max(most, reader.held)
    assert most <= LONGEST_MARKS + len(line)


def test_wrapped_lines_without_an_end_do_not_wait() -> None:
    reader = ParagraphReader()
    line = "Bath had never been so full of people as in that very warm summer"
    held = [reader.feed(line, ends_line=True) is None or reader.held for _ in range(50)]
    assert max(held) <= 7 * len(line)


TO_LONDON = "The committee met again in the spring and decided to move to"


def test_a_blank_line_is_a_break_whatever_follows() -> None:
    assert split(f"{TO_LONDON}\nthe river.") == [f"{TO_LONDON} the river."]
    assert split(f"{TO_LONDON}\n\nthe river of London.") == [TO_LONDON, "the river of London."]


def test_before_a_blank_line_the_last_line_of_two_is_known_to_be_the_last() -> None:
    first, second = "It was a very warm summer for all the people", "Bath had ever seen."
    assert split(f"{first}\n{second}\n\nThen it rained.") == [
        f"{first} {second}",
        "Then it rained.",
    ]
    verses = [first, second, "Hodge had never been so old."]
    assert split("\n".join(verses)) == verses


def test_what_is_below_a_wrapped_paragraph_may_be_verses() -> None:
    verses = ["It was a very warm summer for all the people", "Bath had ever seen or heard of"]
    assert split(f"{TO_LONDON}\nthe river.\n\n" + "\n".join(verses)) == [
        f"{TO_LONDON} the river.",
        *verses,
    ]
