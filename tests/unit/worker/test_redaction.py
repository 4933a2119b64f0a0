"""A stranger's value in a message: short, in JSON's words, without a secret."""

from __future__ import annotations

import time

import pytest

from worker.redaction import origin, redact, redact_url, redact_urls


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        # A password may hold what ends a host, or a URL within a text.
        ("https://me:wo/rd@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:12/34@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:wo?rd@example.com/a.wav", "https://..."),
        ("https://me:wo#rd@example.com/a.wav", "https://..."),
        ("https://me:w/o?r@d@example.com/a.wav", "https://..."),
        ("https://me:wo://rd@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:wo rd@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:wo\"rd'@example.com/a.wav", "https://...@example.com/a.wav"),
        ("https://me:" + "word" * 1_000 + "@example.com/a.wav", "https://...@example.com/a.wav"),
        ("me:wo/rd@example.com/a.wav", "...@example.com/a.wav"),
        # The "@" of a query is no password's, but what stands behind it is a query all the same.
        ("https://example.com:8443/a?to=me@b&X-Amz-Signature=abc", "https://..."),
        ("https://me@example.com/a?to=me@b&X-Amz-Signature=abc", "https://..."),
        ("https://example.com/a?to=me@b&X-Amz-Signature=abc", "https://example.com/a?..."),
        ("https://example.com/a#access_token=abc", "https://example.com/a#..."),
        # A pre-signed URL whose scheme was left out.
        ("b.s3.amazonaws.com/k?X-Amz-Signature=abc", "b.s3.amazonaws.com/k?..."),
        ("b.s3.amazonaws.com/my k?list&X-Amz-Signature=abc", "b.s3.amazonaws.com/my k?..."),
        ("//b.s3.amazonaws.com/k?X-Amz-Signature=abc", "//b.s3.amazonaws.com/k?..."),
        ("k?X-Amz-Signature=abc&next=https://example.com/a", "k?..."),
        ("https://a.example/b or https://me:word@c.example", "https://...@c.example"),
        ("is it #3? see https://a.example/b?c", "is it #3? see https://a.example/b?..."),
    ],
)
def test_what_may_be_a_secret_of_a_url_is_hidden(url: str, shown: str) -> None:
    assert redact(url) == repr(shown)


@pytest.mark.parametrize(
    "text",
    ["Spark-TTS-0.5B@1a2b: no", "really?! yes = no", "item #3 of 4", "a@b", "12:30 @ home", "C:/x"],
)
def test_a_text_without_a_url_is_shown_as_it_is(text: str) -> None:
    assert redact(text) == repr(text)
    assert redact_urls(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see <https://me:wo/rd@h.example/a>, 'k?X-Amz-Signature=abc' and https://h.example/b?c",
         "see <https://...@h.example/a>, 'k?...' and https://h.example/b?..."),
        ("it is at h.example/k?sig=1\nand at h.example/k?sig=2",
         "it is at h.example/k?...\nand at h.example/k?..."),
        ("https://h.example/a?next=https://h.example/b", "https://h.example/a?..."),
    ],
)  # fmt: skip
def test_each_url_of_a_text_is_redacted_by_itself(text: str, shown: str) -> None:
    assert redact_urls(text) == shown


def test_a_url_of_any_length_is_shown_in_200_characters() -> None:
    assert (
        redact_url(f"https://me:word@h.example/{'x' * 300}?sig=1")
        == (f"https://...@h.example/{'x' * 300}"[:200])
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:word@h.example:8443/a?sig=1", "https://h.example:8443"),
        ("http://h.example", "http://h.example"),
        ("ftp://h.example", ""),
        ("https://h.example:port", ""),
        ("https://[::1", ""),
        ("https://h\u200bexample/", ""),
        ("/only/a/path", ""),
        ("", ""),
    ],
)
def test_of_an_origin_scheme_host_and_port_are_left(url: str, shown: str) -> None:
    assert origin(url) == shown


def test_redaction_takes_time_in_proportion_to_the_value() -> None:
    """A job's input may have megabytes, all of which a stranger chose."""
    for unit in ("https://", "a:b@", "a?b=", "a:b/c@d?e=f ", "@", "?", "://"):
        started = time.perf_counter()
        assert len(redact(unit * (2_000_000 // len(unit)))) <= 80
        assert time.perf_counter() - started < 1
