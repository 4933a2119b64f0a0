"""Words that a line break parts at a hyphen."""

from __future__ import annotations

import pytest

from worker.text.hyphens import is_suspended, keeps_hyphen, may_grow, parts_word

PARTED = (
    "gentle-man super-market com-mittee mem-ber re-member non-sense co-operate inter-national "
    "ex-pect well-ness self-ish high-way high-light new-ly short-ly half-way one-self some-thing "
    "down-town free-dom seven-ty seven-teen long-ing hard-ly read-able light-house com-puter "
    "far-mer part-ner state-ment ill-ness time-table real-ity all-owed ten-sion second-ary "
    "soft-ware ever-green eight-een good-bye left-over"
)


@pytest.mark.parametrize("parts", PARTED.split())
def test_the_hyphen_of_a_typesetter_goes(parts: str) -> None:
    first, second = parts.split("-")
    assert not keeps_hyphen(f"{first}-", second)
    assert not keeps_hyphen(f"{first}\u00ad", second)


@pytest.mark.parametrize(
    ("end", "second"),
    [
        ("well-", "known"),
        ("twenty-", "one"),
        ("Thirty-", "nine"),
        ("e-", "mail"),
        ("T-", "shirt"),
        ("self-", "made"),
        ("high-", "speed"),
        ("half-", "eaten"),
        ("mother-in-", "law"),
        ("state-", "of-the-art"),
        ("state-of-", "the-art"),
        ("3-", "day"),
        ("COVID-", "19"),
        ("Anglo-", "Saxon"),
        ("TV-", "set"),
        ("https://example.org/a-", "page"),
    ],
)
def test_the_hyphen_of_a_compound_stays(end: str, second: str) -> None:
    assert parts_word(f"so {end}")
    assert keeps_hyphen(f"so {end}", second)


@pytest.mark.parametrize("end", ["", "word", "he came -", "he came --", "-", "…-", "word -"])
def test_these_end_within_no_word(end: str) -> None:
    assert not parts_word(end)


def test_a_hyphen_may_stand_for_what_comes_later() -> None:
    assert is_suspended("and post-war")
    assert not is_suspended("androgynous")


def test_the_second_half_may_grow_until_another_character_comes() -> None:
    assert may_grow("mark")
    assert not may_grow("market ")
    assert not may_grow("a" * 50)
