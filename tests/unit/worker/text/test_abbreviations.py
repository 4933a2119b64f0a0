"""Full stops that belong to an abbreviation, and those that end a sentence behind one."""

from __future__ import annotations

import pytest

from bench.sentence_ends import TABLE, is_right, read_cases
from worker.text.abbreviations import is_abbreviated, may_be_abbreviated
from worker.text.sentences import split

CASES = [case for name in ("english", "chinese") for case in read_cases(TABLE / f"{name}.txt")]
BEFORE_NUMBERS = (
    "Op op Opp Tel tel Ext ext Apt apt Hwy Tab Ver ver Ste Rm Fl Bldg Bk Para App Ex Pt Ser Vol "
    "Fig Eq Ch Chap Sect Cl Rte Nos No no p pp pg Sec Ed ed Min Max Hr Mon Tue Tues Wed Thu Thur "
    "Thurs Fri Sat Sun Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Wash Calif Ref Nr Rs"
)
UNITS = (
    ("6", "ft", "2"),
    ("80", "lb", "5"),
    ("3", "hr", "20"),
    ("5", "min", "30"),
    ("1", "gal", "2"),
)


@pytest.mark.parametrize(("text", "sentences"), CASES, ids=[text[:30] for text, _ in CASES])
def test_sentences_of_every_kind(text: str, sentences: list[str]) -> None:
    assert is_right(text, sentences), split(text)


@pytest.mark.parametrize("short", BEFORE_NUMBERS.split())
def test_an_abbreviation_before_a_number_ends_no_sentence(short: str) -> None:
    for number in ("27", "(27)", "#27", "27.5", "-3", "½"):
        text = f"We have seen {short}. {number} of them today."
        assert split(text) == [text]


@pytest.mark.parametrize(("count", "unit", "rest"), UNITS)
def test_a_measure_of_two_units_is_one(count: str, unit: str, rest: str) -> None:
    for text in (
        f"It was {count} {unit}. {rest} in. or so.",
        f"It was {count}-{unit}. {rest}-in. or so.",
        f"It was {count}{unit}. {rest}in. or so.",
    ):
        assert split(text) == [text]
    assert split(f"It was {count} {unit}. Bath was full.") == [
        f"It was {count} {unit}.",
        "Bath was full.",
    ]


@pytest.mark.parametrize("word", ["in", "m", "deg", "pt"])
def test_a_unit_that_is_a_word_needs_a_number_before_it(word: str) -> None:
    if word not in {"m", "pt"}:  # a letter, and a part of a book
        assert not is_abbreviated(f"I saw it {word}", "27", dot=False)
    assert is_abbreviated(f"I saw 6 {word}", "27", dot=False)
    assert is_abbreviated(f"I saw six {word}", "27", dot=False)


@pytest.mark.parametrize("short", ["Com", "Adm", "Inc", "Op", "Tel", "Mon", "etc", "Smith", "ft"])
def test_what_follows_may_go_on_in_any_case(short: str) -> None:
    for following in ("& Adm. now", "and so on", ", so to speak", "then and there"):
        text = f"We have seen {short}. {following}"
        assert split(text) == [text]


@pytest.mark.parametrize(
    ("short", "label"),
    [
        ("Apt", "B"),
        ("Vol", "IV"),
        ("Fig", "C2"),
        ("App", "A"),
        ("Pt", "II"),
        ("Hwy", "I"),
        ("Rm", "X"),
    ],
)
def test_letters_and_roman_numbers_are_numbers_too(short: str, label: str) -> None:
    text = f"We have seen {short}. {label} of the plan today."
    assert split(text) == [text]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("I came in.", "27 people were there."),
        ("He sat down.", "27 people were there."),
        ("It is in the art.", "Bath has none of it."),
        ("Close the tab.", "I will open another."),
        ("Open on Mon.", "Bath is full by then."),
        ("We saw it in Fig.", "Bath was not on it."),
    ],
)
def test_real_ends_stay(first: str, second: str) -> None:
    assert split(f"{first} {second}") == [first, second]


def test_a_word_without_an_abbreviation_s_look_never_waits_for_the_next() -> None:
    assert not may_be_abbreviated("The weather is nice")
    assert may_be_abbreviated("He works at Acme Inc")
    assert may_be_abbreviated("He is 6 ft")
    assert not may_be_abbreviated("I came in")


def test_a_first_word_with_a_full_stop_is_an_initial() -> None:
    assert is_abbreviated("He met J", "A", dot=True)
    assert not is_abbreviated("He met J", "A", dot=False)
