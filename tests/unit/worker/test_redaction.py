"""A stranger's value in a message: short, in JSON's words, without a secret."""

from __future__ import annotations

import pytest

from worker.redaction import redact


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (-0.5, "-0.5"),
        ("it", "'it'"),
        ([1, None, True], "[1, null, true]"),
        ({"a": False}, "{'a': false}"),
        ([[[[1]]]], "[[[[...]]]]"),
        ("a\nb", "'a\\nb'"),
        ("\ud800", "'\\ud800'"),
    ],
)
def test_values_are_shown_in_the_words_of_json(value: object, shown: str) -> None:
    assert redact(value) == shown


def test_eighty_characters_are_shown_and_of_more_the_first() -> None:
    """The quotation marks are two of them."""
    assert redact("x" * 78) == f"'{'x' * 78}'"
    assert redact("x" * 79) == f"'{'x' * 76}..."


def test_integers_are_shown_up_to_256_bits() -> None:
    assert redact(2**256 - 1) == str(2**256 - 1)
    assert redact(-(2**256 - 1)) == str(-(2**256 - 1))
    assert redact(2**256) == "an integer of more than 77 digits"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.wav", "https://example.com/a.wav"),
        ("https://example.com/a.wav?", "https://example.com/a.wav?..."),
        ("https://example.com/a.wav?key=1?2", "https://example.com/a.wav?..."),
        ("https://me:word@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:wo@rd@example.com/a.wav?key=1", "https://...@example.com/a.wav?..."),
        ("https://example.com/@me/a.wav", "https://example.com/@me/a.wav"),
        ("is it so?", "is it so?"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_a_url_is_shown_without_its_user_and_query(url: str, shown: str) -> None:
    assert redact(url) == f"'{shown}'"
    assert redact([url]) == f"['{shown}']"
    assert redact({url: 1}) == f"{{'{shown}': 1}}"
