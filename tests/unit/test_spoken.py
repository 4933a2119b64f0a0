"""How written words are spoken: numbers, amounts, times, marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.spoken import MAX_READINGS, readings


@pytest.mark.parametrize(
    ("word", "reading"),
    [
        ("$43,000", "forty three thousand dollars"),
        ("$1", "one dollar"),
        ("$3.50", "three dollars and fifty cents"),
        ("5€", "five euros"),
        ("1999", "nineteen ninety nine"),
        ("1999,", "one thousand nine hundred and ninety nine"),
        ("2024", "twenty twenty four"),
        ("1905", "nineteen oh five"),
        ("3.5%", "three point five percent"),
        ("7:30", "seven thirty"),
        ("(7:05)", "seven oh five"),
        ("7:00", "seven o'clock"),
        ("21st", "twenty first"),
        ("1990s", "nineteen nineties"),
        ("COVID-19", "COVID nineteen"),
        ("105", "one hundred five"),
        ("007", "oh oh seven"),
        ("-5", "minus five"),
        ("AT&T", "AT and T"),
        ("&", "and"),
        ("Don’t!", "Don't"),
        ("“Hello,”", "Hello"),
        ("1" * 16, " ".join(["one"] * 16)),
    ],
)  # fmt: skip
def test_english(word: str, reading: str) -> None:
    assert reading in readings(word, "en")


@pytest.mark.parametrize(
    ("word", "reading"),
    [
        ("1999", "一九九九"),
        ("1999", "一千九百九十九"),
        ("43,000", "四万三千"),
        ("$43,000", "四万三千美元"),
        ("￥99.9，", "九十九点九元"),
        ("3.5%", "百分之三点五"),
        ("7:30", "七点半"),
        ("2:05", "两点零五分"),
        ("10", "十"),
        ("12", "十二"),
        ("110", "一百一十"),
        ("200", "两百"),
        ("1001", "一千零一"),
        ("10010", "一万零一十"),
        ("120000", "十二万"),
        ("100010001", "一亿零一万零一"),
        ("1000000000000", "一万亿"),
        ("0.5", "零点五"),
        ("你好。", "你好"),
    ],
)
def test_chinese(word: str, reading: str) -> None:
    assert reading in readings(word, "zh")


@pytest.mark.parametrize("word", ["—", "...", "🙂", "！", "'", "", "{}", "٭"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_not_spoken_has_no_reading(word: str, language: str) -> None:
    assert readings(word, language) == ()


@given(TEXTS, st.sampled_from(["en", "zh"]))
def test_a_reading_is_letters_and_single_spaces(text: str, language: str) -> None:
    for word in text.split():
        spoken = readings(word, language)
        assert len(spoken) == len(set(spoken)) <= MAX_READINGS
        for reading in spoken:
            assert reading == " ".join(reading.split())
            assert all(char.isalpha() or char in "' " for char in reading)
            assert any(map(str.isalpha, reading))


@given(st.integers(0, 10**15 - 1))
def test_every_number_can_be_said(number: int) -> None:
    assert readings(str(number), "en")
    assert set(readings(str(number), "zh")[0]) <= set("零一二三四五六七八九十百千万亿两")
