"""JSON that others may have written: refused by its bytes, before a parser makes objects of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.bounded_json import LISTS_MAX, QUOTES_A_VALUE, check_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=30,
)


def counted(value: object) -> tuple[int, int]:
    """Objects, and an upper bound of values: what stands between commas."""
    if isinstance(value, dict):
        inner = [counted(part) for part in value.values()]
        return 1 + sum(o for o, _ in inner), max(sum(v for _, v in inner), 1)
    if isinstance(value, list):
        inner = [counted(part) for part in value]
        return sum(o for o, _ in inner), max(sum(v for _, v in inner), 1)
    return 0, 1


@given(JSON, st.booleans())
def test_what_is_within_its_bounds_is_given_back(value: object, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only).encode()
    assume(content.count(b"[") <= LISTS_MAX)
    objects, _ = counted(value)
    values = content.count(b",") + 1 + content.count(b'"')
    assert check_json(content, objects=objects, values=values) == content


@pytest.mark.parametrize("text", ["{" * 50, "[" * 50, "," * 50, '\\"' * 10 + "{", "\\\\", "}],"])
def test_what_stands_in_a_text_is_not_counted(text: str) -> None:
    content = json.dumps({"text": text, "after": text}).encode()
    assert check_json(content, objects=1, values=8) == content


@pytest.mark.parametrize(
    "content",
    [
        b"{},{},{}",
        b"[" * (LISTS_MAX + 1),
        b"1,2,3,4,5,6,7,8,9",
        b'"' * (8 * QUOTES_A_VALUE + 1),
        b'{"a":{"b":{}}}',
        b'"\\"{{{",{{{',  # the text ends before the last three
        b'{"a\\\\":{{',
        b"{{{",
        b'""{""{""{',
    ],
)
def test_what_is_more_than_it_may_have_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="too many"):
        check_json(content, objects=2, values=8)


@pytest.mark.parametrize(
    "content",
    [b"", b'"', b'"\\', b"\\", b'"abc', b'\\"{', b"\xff\xfe{", b'"\xff', b"nul"],
)
def test_what_is_no_json_is_left_to_the_parser(content: bytes) -> None:
    assert check_json(content, objects=2, values=8) == content


def test_a_text_that_never_ends_is_read_once() -> None:
    """Else this would take an hour: each of its quotes would be tried as a text's begin."""
    content = b'"' + b'\\"' * 500_000
    assert check_json(content, objects=1, values=500_000) == content
