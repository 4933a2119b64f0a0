"""Words that are said together, and what may be said for each."""

from __future__ import annotations

import pytest

from worker.text.line import Replacement
from worker.text.spoken.normalize import replacements
from worker.text.spoken.word_groups import word_groups


def groups_of(text: str, language: str = "en", *done: Replacement) -> list[tuple[str, str]]:
    """The words of each group of several, and its first reading."""
    words, groups = word_groups(text, language, done)
    found, at = [], 0
    for group in groups:
        written = [word.text for word in words[at : at + group.count]]
        at += group.count
        if group.count > 1:
            found.append(("|".join(written), "|".join(group.readings[0])))
    return found


@pytest.mark.parametrize(
    ("text", "written", "said"),
    [
        ("It raised $14.8 billion today", "$14.8|billion", "fourteen point eight|billion dollars"),
        ("It is 5 km long", "5|km", "five|kilometers"),
        ("It is 20 °C now", "20|°C", "twenty|degrees Celsius"),
        ("some 3 % of it", "3|%", "three|percent"),
        ("No. 5 is here", "No.|5", ""),  # each by itself
        ("from 5 - 10 people", "5|-|10", "five|to|ten"),
        ("on May 5, 2024.", "May|5,|2024.", "May|fifth|twenty twenty four"),
        ("on 5 May", "5|May", "the fifth|of May"),
        ("at 7 p.m. today", "7|p.m.", "seven|P M"),
        ("at 7:30 am today", "7:30|am", "seven thirty|A M"),
        ("call +44 20 7946", "+44|20|7946", "plus four four|two zero|seven nine four six"),
        ("call +1 555 867 5309 now", "+1|555|867|5309",
         "plus one|five five five|eight six seven|five three zero nine"),
        ("USD 100 only", "USD|100", "one hundred|U S dollars"),
    ],
)  # fmt: skip
def test_english_words_that_are_said_together(text: str, written: str, said: str) -> None:
    assert groups_of(text) == ([(written, said)] if said else [])


@pytest.mark.parametrize(
    ("text", "written", "said"),
    [
        ("融资$14.8亿", "$14.8|亿", "十四点八|亿美元"),
        ("2024年5月6日", "2024|年|5|月|6", "二零二四|年|五|月|六"),
        ("今天-5℃", "今天-|5℃", "今天|零下五摄氏度"),
    ],
)
def test_chinese_words_that_are_said_together(text: str, written: str, said: str) -> None:
    assert groups_of(text, "zh")[:1] == [(written, said)]


def test_what_stands_around_a_number_is_said_too() -> None:
    _, (group,) = word_groups("pre-1987-ish", "en")
    assert group.readings[0] == ("pre nineteen eighty seven ish",)


def test_readings_of_a_group_are_followed_by_those_of_its_words() -> None:
    _, groups = word_groups("$5 billion", "en")
    assert groups[0].readings[0] == ("five", "billion dollars")
    assert ("five dollars", "billion") in groups[0].readings


def test_what_was_replaced_has_one_reading() -> None:
    text = "It was 1987, or $14.8 billion."
    done = replacements(text, "en", "on")
    words, groups = word_groups(text, "en", done)
    assert [group.count for group in groups] == [1] * len(words)
    assert [group.readings for group in groups] == [
        (("It",),),
        (("was",),),
        (("nineteen eighty seven",),),
        (("or",),),
        (("fourteen point eight",),),
        (("billion dollars",),),
    ]


@pytest.mark.parametrize(
    ("said", "first", "second"),
    [
        ("one two three four", "one two", "three four"),
        ("one", "one", ""),
        ("今天我们", "今天", "我们"),
    ],
)
def test_one_replacement_of_several_words_is_shared_among_them(
    said: str, first: str, second: str
) -> None:
    _, groups = word_groups("an abc xyz!", "en", [Replacement(3, 10, said)])
    assert [group.readings for group in groups[1:]] == [((first, second),)]


def test_a_part_of_a_word_may_be_replaced() -> None:
    _, groups = word_groups("(a GIF's b)", "en", [Replacement(3, 6, "jif")])
    assert groups[1].readings == (("jif's",),)


def test_a_word_of_which_nothing_is_said_has_no_reading() -> None:
    _, groups = word_groups("a — b 🙂", "en")
    assert [bool(group.readings) for group in groups] == [True, False, True, False]
