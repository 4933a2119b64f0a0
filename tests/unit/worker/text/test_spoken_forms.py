"""How written words are spoken: numbers, amounts, times, marks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.text.spoken_forms import MAX_READINGS, readings

NINES = "九千九百九十九"


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


@pytest.mark.parametrize(
    ("word", "spoken"),
    [
        # Times of day: up to 24:59, the minutes below ten with a nought.
        ("7:10", "seven ten"),
        ("7:09", "seven oh nine|seven zero nine"),
        ("7:00", "seven o'clock|seven|seven hundred"),
        ("24:00", "twenty four o'clock|twenty four|twenty four hundred"),
        ("25:00", "twenty five zero zero|twenty five oh oh"),
        ("7:60", "seven sixty"),
        # Years: 1100 to 2099, four digits without a comma.
        ("1099", "one thousand and ninety nine|one thousand ninety nine|one zero nine nine"),
        ("1100", "eleven hundred|one thousand one hundred"),
        (
            "2099",
            "twenty ninety nine|two thousand and ninety nine|two thousand ninety nine",
        ),
        ("2100", "two thousand one hundred|two one zero zero"),
        (
            "1,950",
            (
                "one thousand nine hundred and fifty|one thousand nine hundred fifty"
                "|one nine five zero"
            ),
        ),
        ("1920s", "nineteen twenties"),
        ("1900's", "nineteen hundreds"),
        ("1090s", "one thousand and ninety s|one thousand ninety s|one zero nine zero s"),
        # Numbers: from three digits on also digit by digit.
        ("0", "zero"),
        ("99", "ninety nine"),
        ("100", "one hundred|one zero zero"),
        ("105.5", "one hundred and five point five|one hundred five point five"),
        ("3.05", "three point zero five"),
        ("007", "zero zero seven|oh oh seven"),
        ("-5", "minus five|negative five"),
        ("−5", "minus five|negative five"),
        ("101st", "one hundred and first|one hundred first"),
        ("12TH", "twelfth"),
        # Amounts: one of a coin, cents where there are two digits of them.
        ("$1", "one dollar"),
        ("$1.5", "one point five dollars"),
        (
            "$1.50",
            (
                "one dollar fifty cents|one dollar and fifty cents|one dollar fifty"
                "|one point five zero dollars"
            ),
        ),
        ("$2.00", "two dollars|two point zero zero dollars"),
        ("$1.00", "one dollar|one point zero zero dollars"),
        ("$3.505", "three point five zero five dollars"),
        ("5£", "five pounds"),
        (
            "£2.20",
            (
                "two pounds twenty pence|two pounds and twenty pence|two pounds twenty"
                "|two point two zero pounds"
            ),
        ),
        ("€1", "one euro"),
        ("¥5.00", "five point zero zero yen"),
        ("￥5", "five yuan"),
        ("5￥", "five yuan"),
        ("50％", "fifty percent"),
        # Words made of several things.
        ("2x4", "two x four"),
        ("1+1=2", "one plus one equals two"),
        ("C++", "C plus plus"),
        ("me@home", "me at home"),
        (
            "105-105-105",
            "one hundred and five one hundred and five one hundred and five",
        ),
    ],
)
def test_english_readings_in_their_order(word: str, spoken: str) -> None:
    assert "|".join(readings(word, "en")) == spoken


@pytest.mark.parametrize(
    ("word", "spoken"),
    [
        ("7:30", "七点三十分|七点三十|七点半"),
        ("7:31", "七点三十一分|七点三十一"),
        ("7:45", "七点四十五分|七点四十五"),
        ("7:09", "七点零九分|七点零九"),
        ("7:10", "七点十分|七点十"),
        ("2:00", "两点|两点整"),
        ("12:00", "十二点|十二点整"),
        ("0", "零"),
        ("2", "二|两"),
        ("22", "二十二"),
        ("20", "二十"),
        ("99", "九十九"),
        ("100", "一百|一零零"),
        ("200", "二百|两百|二零零"),
        ("2.5", "二点五"),
        ("007", "零零七"),
        ("2024", "二零二四|二千零二十四|两千零二十四"),
        ("2,024", "二千零二十四|两千零二十四|二零二四"),
        ("1050", "一零五零|一千零五十"),
        ("10500", "一万零五百|一零五零零"),
        ("20000", "二万|两万|二零零零零"),
        ("100000", "十万|一零零零零零"),
        ("100000000", "一亿|一零零零零零零零零"),
        ("1000000001000", "一万亿零一千|一零零零零零零零零一零零零"),
        ("999" + "9" * 12, f"九百九十九万{NINES}亿{NINES}万{NINES}|{'九' * 15}"),
        ("1" * 16, "一" * 16),
        ("$5", "五美元"),
        ("5€", "五欧元"),
        ("£5", "五英镑"),
        ("¥5", "五元"),
        ("￥5", "五元"),
        ("50％", "百分之五十"),
        ("+5", "加五"),
        ("1=1", "一等于一"),
        ("200-200", "二百 二百|二百 两百|二百 二零零|两百 二百|两百 两百|两百 二零零"),
        ("200-200-200", "二百 二百 二百"),
    ],
)
def test_chinese_readings_in_their_order(word: str, spoken: str) -> None:
    assert "|".join(readings(word, "zh")) == spoken


def test_a_number_beside_chinese_is_spoken_in_chinese() -> None:
    assert readings("第3章", "en") == ("第三章",)


def test_the_longest_number_that_is_read_as_one_has_fifteen_digits() -> None:
    assert readings("1" + "0" * 14, "en")[0] == "one hundred trillion"
    assert readings("1" + "0" * 15, "en")[0] == " ".join(["one"] + ["zero"] * 15)


def test_six_readings_are_given_and_no_more() -> None:
    """Three ways for each of two numbers are nine."""
    with_and, without, digits = "one hundred and five", "one hundred five", "one zero five"
    assert readings("105-105", "en") == (
        f"{with_and} {with_and}",
        f"{with_and} {without}",
        f"{with_and} {digits}",
        f"{without} {with_and}",
        f"{without} {without}",
        f"{without} {digits}",
    )


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
