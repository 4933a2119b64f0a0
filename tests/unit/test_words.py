"""Words as they are written: none lost, each with its place; the language by script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.words import language_of, split_words


@given(TEXTS)
def test_words_are_the_text_without_its_white_space(text: str) -> None:
    words = split_words(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert all(text[word.start : word.end] == word.text for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert all(word.text for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello,  world!", ["Hello,", "world!"]),
        ("“Hi” — don't", ["“Hi”", "—", "don't"]),
        ("我们去“北京大学”看书。", ["我们", "去", "“北京大学”", "看书。"]),
        ("（NYC）的3.5%！！", ["（NYC）", "的", "3.5%！！"]),
        ("买iPhone 15，好", ["买", "iPhone", "15，", "好"]),
        ("花$43,000，7:30见😀", ["花", "$43,000，", "7:30", "见😀"]),
        ("你（", ["你（"]),
        ("，，你", ["，，你"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [word.text for word in split_words(text)] == words


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello", "en"),
        ("你好", "zh"),
        ("We say 你好", "zh"),
        ("We all say 你", "en"),
        ("123 🙂", "en"),
    ],
)
def test_the_language_is_that_of_the_script(text: str, language: str) -> None:
    assert language_of(text) == language


@given(st.text(st.characters(categories=["Nd", "Po", "So", "Zs"])))
def test_a_text_without_letters_takes_the_given_language(text: str) -> None:
    assert language_of(text, default="zh") == "zh"
