"""Sentences of a text that comes in pieces: those of the whole, as early as they are known."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from tests.unit.worker.text.test_sentences import HOSTILE, PARTS, SENTENCES
from worker.text.sentence_buffer import HELD, SentenceBuffer
from worker.text.sentences import WORD, split

WRAPPED = [
    "The committee met again in the spring and moved the office to",
    "London, for the rent of the",
    "old house at the",
    "river was too high. Nobody at",
    "the well-",
    "known and gentle-",
    "> man of 1984",
    "27. Then",
    "02",
    "IV.",
    "- an item",
    "“We shall see,” said Mrs.",
    "Hodge (a teacher of",
    "French). I",
    "从下个星期开始，城里的图",
    "书馆每天晚上都会开",
    "放到九点。",
    "",
    "> ",
    "THE OFFICE IS CLOSED ON",
    "Op.",
    "Mon.",
    "1. Wash 2.",
    "Peel",
]
MARKED = [marked.replace("|", "").replace("\\n", "\n") for marked in SENTENCES]


def wrapped(words: list[str]) -> str:
    """Of the lengths that the words have, so that each text has another width."""
    text = " ".join(words)
    return textwrap.fill(text, 20 + len(text) % 70, break_on_hyphens=False)


ANY = st.one_of(
    TEXTS,
    st.lists(PARTS, max_size=60).map("".join),
    st.lists(st.sampled_from(MARKED), max_size=4).map(" ".join),
    st.lists(st.sampled_from(MARKED), max_size=4).map("\n".join),
    st.lists(st.sampled_from(WRAPPED), max_size=12).map("\n".join),
    st.lists(st.sampled_from([*WRAPPED, *" ".join(WRAPPED).split()]), max_size=40).map(wrapped),
    st.text(max_size=200),
)


def spoken(pieces: list[str]) -> list[str]:
    """What the buffer gives of these pieces, to the last."""
    buffer = SentenceBuffer()
    return [sentence for piece in pieces for sentence in buffer.feed(piece)] + buffer.flush()


def whole(text: str) -> list[str]:
    """What is spoken of the whole text: nothing where no word is in it."""
    return split(text) if WORD.search(text) else []


def cut(text: str, lengths: list[int]) -> list[str]:
    pieces = []
    for length in lengths:
        pieces.append(text[:length])
        text = text[length:]
    return [*pieces, text]


@settings(max_examples=300)
@given(ANY, st.lists(st.integers(0, 12), max_size=120))
@example("Hello there, friend.\r\n***\r\nNext one.", [20, 1, 1, 2, 1])
def test_however_a_text_is_cut_its_sentences_are_those_of_the_whole(
    text: str, lengths: list[int]
) -> None:
    assert spoken(cut(text, lengths)) == whole(text)


@settings(max_examples=200)
@given(ANY)
def test_letter_by_letter_too(text: str) -> None:
    assert spoken(list(text)) == whole(text)


@pytest.mark.parametrize("marked", SENTENCES)
def test_every_hard_case_letter_by_letter(marked: str) -> None:
    text = marked.replace("|", "").replace("\\n", "\n")
    assert spoken(list(text)) == whole(text)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("The weather is nice. How are yo", "The weather is nice."),
        ("The weather is nice! How are yo", "The weather is nice!"),
        ("今天天气真的很好。我们去公", "今天天气真的很好。"),
        ("The first is one\nTh", "The first is one"),  # it is short
        ("The first line is a longer title\nThe n", "The first line is a longer title"),
        ("He works at Acme Inc. The others", "He works at Acme Inc."),
        ("1. Wash the apples 2. Peel them a", "1. Wash the apples"),
        ("It burnt down twice.[2][3] Nobody left i", "It burnt down twice.[2][3]"),
        ("She said, “It is over now.” Then she left", "She said, “It is over now.”"),
    ],
)
def test_a_sentence_is_given_before_the_next_one_is_whole(text: str, known: str) -> None:
    assert SentenceBuffer().feed(text) == [known]


@pytest.mark.parametrize(
    "text",
    [
        "The weather is nice",
        "The weather is nice.",
        "The weather is nice. ",
        "The weather is nice. No. ",  # goes to a neighbour
        "The weather is nice. 😀",
        "It costs 3.",
        "It costs 3. ",
        "He works at Acme Inc. T",  # The, or Tim
        "See e.g. The",
        "It burnt down twice.[",
        "It burnt down twice.[2",
        "She plays Beethoven's Op. ",
        "I thought... I",
        "1. Wash the apples 2.",
        "The weather is nice.\n02",  # at the end it goes to the line before
        "The weather is nice.\n> ",
        "The history of the old gentle-\nman",
        "从下个星期开始，城里的图\n书馆每天晚上",
        "他对我说：“你好啊。”",
        "《你好！",
        "The first line is a title\n",
        "The first line is a title\n***",
        "The first line is a title\r",
    ],
)
def test_what_may_still_change_waits_for_the_flush(text: str) -> None:
    buffer = SentenceBuffer()
    assert buffer.feed(text) == []
    assert buffer.flush() == whole(text)
    assert buffer.held == 0


def test_a_wrapped_line_waits_for_no_more_than_six() -> None:
    buffer, held = SentenceBuffer(), []
    for _ in range(40):
        buffer.feed("Bath had never been so full of people as in that very warm summer\n")
        held.append(buffer.held)
    assert max(held[:5]) > 200
    assert max(held) < 8 * 66


def test_after_a_flush_a_new_text_begins() -> None:
    buffer = SentenceBuffer()
    buffer.feed("This line was wrapped by somebody at a width of fifty\n")
    assert len(buffer.flush()) == 1
    buffer.feed("and this one is a text of its own")
    assert buffer.flush() == ["and this one is a text of its own"]


@pytest.mark.parametrize("part", ["word ", "word, ", "*", "中", "《", "a\u0301", ". ", "*\n"])
def test_what_has_no_end_is_cut_so_that_little_is_held(part: str) -> None:
    buffer = SentenceBuffer()
    buffer.feed("A word. ")
    most = 0
    for _ in range(HELD + HELD // 2):
        buffer.feed(part)
        most = max(most, buffer.held)
    assert most <= 2 * HELD


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_of_a_hostile_text_nothing_is_lost(text: str) -> None:
    sentences = spoken([text[i : i + 500] for i in range(0, len(text), 500)])
    words = "".join(filter(str.isalnum, text))
    assert "".join(filter(str.isalnum, "".join(sentences))) == words
    assert all(map(WORD.search, sentences))
