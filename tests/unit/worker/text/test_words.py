"""Words as they are written: none lost, each with its place; the language by script."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.text.words import has_han, language_of, split_words


@settings(deadline=None)  # the first text loads the dictionary
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
        ("买$5，€6和￥7", ["买", "$5，", "€6", "和", "￥7"]),
        ("去（“北京”）玩", ["去", "（“北京”）", "玩"]),
        ("看《红楼梦》", ["看", "《红楼梦》"]),
        ("（，你！", ["（，你！"]),
        ("你“。我", ["你", "“。我"]),
        ("你（）", ["你（）"]),
        ("你，“（我", ["你，", "“（我"]),
        ("你“我”。“他", ["你", "“我”。", "“他"]),
        ("  你 A  好", ["你", "A", "好"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [word.text for word in split_words(text)] == words


@pytest.mark.parametrize("mark", [*".,:'’/@&_+-"])
def test_marks_within_a_name_or_number_part_no_word(mark: str) -> None:
    assert [word.text for word in split_words(f"用a{mark}5好")] == ["用", f"a{mark}5", "好"]


def test_other_marks_end_a_word() -> None:
    assert [word.text for word in split_words("用a*5-好")] == ["用", "a*", "5-", "好"]


@pytest.mark.parametrize(
    "character",
    ["〇", "㐀", "䶿", "一", "鿿", "\uf900", "\ufaff", "\U00020000", "\U0002a6df", "\U0003fffd"],
)
def test_chinese_characters(character: str) -> None:
    assert has_han(f"a{character}")
    assert language_of(character) == "zh"


@pytest.mark.parametrize(
    "character", ["a", "7", "。", "の", "ア", "한", "\u33ff", "䷀", "\ua000", "ﬀ", "😀"]
)
def test_other_characters_are_not_chinese(character: str) -> None:
    assert not has_han(character)


def test_a_word_has_the_place_where_it_stands() -> None:
    text = " Hi, 我们去 “北京大学”。 ok"
    places = {word.text: (word.start, word.end) for word in split_words(text)}
    assert places == {
        "Hi,": (1, 4),
        "我们": (5, 7),
        "去": (7, 8),
        "“北京大学”。": (9, 16),
        "ok": (17, 19),
    }


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello", "en"),
        ("你好", "zh"),
        ("We say 你好", "zh"),
        ("We all say 你", "en"),
        ("123 🙂", "en"),
        ("", "en"),
        ("A和B", "en"),
        ("A和你B", "zh"),
        ("don't 好", "zh"),
        ("don’t 12 好", "zh"),
        ("well-known 好", "en"),
    ],
)
def test_the_language_is_that_of_the_script(text: str, language: str) -> None:
    assert language_of(text) == language


def test_letters_count_more_than_the_given_language() -> None:
    assert language_of("Hello", default="zh") == "en"
    assert language_of("你好", default="en") == "zh"


@given(st.text(st.characters(categories=["Nd", "Po", "So", "Zs"])))
def test_a_text_without_letters_takes_the_given_language(text: str) -> None:
    assert language_of(text, default="zh") == "zh"
