"""Words that are said otherwise than they are written."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.line import Line
from worker.text.pronunciations import pronounce

WORDS = {"Nguyen": "win", "SQL": "sequel", "gif": "jif", "US": "U S", "New York": "the city"}


def said(text: str, pronunciations: dict[str, str]) -> str:
    return Line(text, pronounce(text, pronunciations)).said


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("Nguyen left.", "win left."),
        ("It is Nguyen's, and Nguyen’s too.", "It is win's, and win’s too."),
        ("(Nguyen), “Nguyen”; 'Nguyen' - Nguyen-Smith!", "(win), “win”; 'win' - win-Smith!"),
        ("Nguyens and NGUYEN and nguyen", "Nguyens and NGUYEN and nguyen"),
        ("a gif, a GIF, a Gif, gifs", "a jif, a jif, a jif, gifs"),
        ("Give it to us in the US.", "Give it to us in the U S."),
        ("MySQL, SQL2, SQL_x, xSQL", "MySQL, SQL2, SQL_x, xSQL"),
        ("用SQL查询，SQL。", "用sequel查询，sequel。"),
        ("New York, New Yorkers", "the city, New Yorkers"),
        ("NoSQL/SQL", "NoSQL/sequel"),
    ],
)
def test_a_whole_word_is_replaced(text: str, heard: str) -> None:
    assert said(text, WORDS) == heard


@pytest.mark.parametrize(
    ("pronunciations", "text", "heard"),
    [
        ({"a": "1", "a b": "2", "a b c": "3"}, "a b c, a b, a", "3, 2, 1"),
        ({"York": "1", "New York": "2"}, "York, New York", "1, 2"),
        ({"gif": "any", "GIF": "exact"}, "gif Gif GIF", "any any exact"),
        ({"C++": "see plus plus", "C": "see"}, "C++ and C, C.", "see plus plus and see, see."),
        ({".NET": "dot net"}, "in .NET and x.NET", "in dot net and xdot net"),
        ({"&": "and"}, "a & b&c", "a and bandc"),
        ({"don": "x", "it": "y"}, "don't do it, it's Don", "don't do y, y's x"),
        ({"Brien": "x"}, "O'Brien met Brien", "O'Brien met x"),
        ({"行": "hang"}, "银行行长", "银hanghang长"),
        ({"银行": "yin hang", "行": "x"}, "银行行长", "yin hangx长"),
        ({"São  Paulo": "sampa"}, "São Paulo", "sampa"),
        ({"ä": "ae"}, "ä Ä äb bä", "ae ae äb bä"),
        ({"a": "x"}, unicodedata.normalize("NFD", "á a"), unicodedata.normalize("NFD", "á") + " x"),
        ({"é": "x"}, unicodedata.normalize("NFD", "é") + " é", "x x"),
        ({unicodedata.normalize("NFD", "é"): "x"}, "é", "x"),
        ({"İ": "x"}, "i İ", "i x"),
    ],
)
def test_which_key_counts(pronunciations: dict[str, str], text: str, heard: str) -> None:
    assert said(text, pronunciations) == heard


def test_what_was_said_is_not_looked_through_again() -> None:
    assert said("a b", {"a": "b", "b": "a"}) == "b a"


@given(
    text=st.text(alphabet="abAB '’.-字é\u0301", max_size=20),
    keys=st.dictionaries(
        st.sampled_from(["a", "b", "ab", "A", "a b", "字", "é", "'"]), st.just("Z")
    ),
)
def test_replacements_are_in_order_and_the_rest_is_kept(text: str, keys: dict[str, str]) -> None:
    found = pronounce(text, keys)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    rest = Line(text, tuple(type(one)(one.start, one.end, "") for one in found)).said
    assert len(rest) == len(text) - sum(one.end - one.start for one in found)
