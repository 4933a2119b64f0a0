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


def test_what_is_no_place_is_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="is neither an s3:// nor an https:// URL"):
        parse_reference("ftp://a.example/x.wav")


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
