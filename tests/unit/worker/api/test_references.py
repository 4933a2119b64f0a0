"""Where reference audio is: the three kinds of places, read and written again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.references import (
    BucketReference,
    NamedReference,
    Reference,
    UrlReference,
    parse_reference,
)


def place(given: str) -> str:
    return str(parse_reference(given))


def reason(given: str) -> str:
    with pytest.raises(ValueError, match=r"^(is|has|holds) ") as refused:
        parse_reference(given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("alice.wav", NamedReference("alice.wav")),
        ("voices/team/alice.wav", NamedReference("team/alice.wav")),
        ("S3://my-bucket/a/b.wav", BucketReference("my-bucket", "a/b.wav")),
        ("HTTPS://a.example/x.wav?sig=1", UrlReference("https://a.example/x.wav?sig=1")),
    ],
)
def test_each_kind_of_place_is_told_from_the_others(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


def test_a_place_has_at_most_8192_characters() -> None:
    for start in ("", "s3://bucket/", "https://example.com/"):
        longest = start + "a" * (8192 - len(start))
        assert place(longest) == longest
        assert "is 8193 characters long" in reason(start + "a" * (8193 - len(start)))


@pytest.mark.parametrize("given", ["a b.wav", "a\tb.wav", "a\\b.wav", "a\x7f.wav", "s3://b c/a"])
def test_a_place_holds_nothing_that_is_not_printed(given: str) -> None:
    assert "holds a space, a backslash or a control character" in reason(given)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("s3://abc/a", True),
        (f"s3://{'b' * 63}/a", True),
        (f"s3://{'b' * 64}/a", False),
        ("s3://b/a", False),
        ("s3://-bc/a", False),
        ("s3://b_c/a", True),
        ("s3://b@c/a", False),
    ],
)
def test_a_bucket_has_a_name_that_a_bucket_can_have(given: str, taken: bool) -> None:
    if taken:
        assert place(given) == given
    else:
        assert "has no bucket's name after s3://" in reason(given)


@pytest.mark.parametrize(
    "given",
    ["s3://bucket", "s3://bucket/", "s3://bucket/a/", "s3://bucket/a//b", "s3://bucket/./a"],
)
def test_a_key_names_a_file(given: str) -> None:
    assert "has no file's key after the bucket's name" in reason(given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("https://example.com:0/a.wav", "no usable host or port"),
        ("https://example.com:65536/a.wav", "no usable host or port"),
        ("https://example.com:port/a.wav", "no usable host or port"),
        ("https://:443/a.wav", "no usable host or port"),
        ("https://:word@example.com/a.wav", "holds a user name"),
        ("https://me@example.com/a.wav", "holds a user name"),
        ("https://@example.com/a.wav", "holds a user name"),
        ("http://example.com/a.wav", "neither an s3:// nor an https:// URL"),
        ("https:/example.com/a.wav", "neither an s3:// nor an https:// URL"),
        ("ftp://a.example/x.wav", "neither an s3:// nor an https:// URL"),
        ("s3:bucket/a.wav", "neither an s3:// nor an https:// URL"),
        ("a..b", "neither a URL nor a name below voices/"),
        ("a/", "neither a URL nor a name below voices/"),
        ("a/.b", "neither a URL nor a name below voices/"),
        ("voices/", "neither a URL nor a name below voices/"),
        ("voices/-a", "neither a URL nor a name below voices/"),
    ],
)
def test_a_place_that_cannot_be_says_why(given: str, why: str) -> None:
    assert why in reason(given)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://example.com:1/a.wav", "https://example.com:1/a.wav"),
        ("https://example.com:65535/a.wav", "https://example.com:65535/a.wav"),
        ("https://example.com/a@b.wav", "https://example.com/a@b.wav"),
        ("Https://Example.com/A.wav", "https://Example.com/A.wav"),
        ("S3://bucket/A:b.wav", "s3://bucket/A:b.wav"),
        ("voices/a.wav", "a.wav"),
        ("voices/voices/a.wav", "voices/voices/a.wav"),
        ("a", "a"),
        ("a/b/c_d-e.f.wav", "a/b/c_d-e.f.wav"),
    ],
)
def test_a_place_is_kept_as_given_but_for_its_scheme_and_folder(given: str, kept: str) -> None:
    assert place(given) == kept


@given(
    st.one_of(
        st.from_regex(r"(voices/){0,3}[a-z][a-z.]{0,9}(/[a-z]{1,5})?", fullmatch=True),
        st.from_regex(r"[sS]3://[a-z]{3,9}/[!-~]{1,20}", fullmatch=True),
        st.from_regex(r"https://[a-z]{1,9}[!-~]{0,20}", fullmatch=True),
        st.text(max_size=30),
    )
)
def test_a_reference_that_is_written_again_is_read_as_the_same(text: str) -> None:
    try:
        reference = parse_reference(text)
    except ValueError:
        return
    assert parse_reference(str(reference)) == reference
