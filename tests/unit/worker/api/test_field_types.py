"""The rules of a job's fields at their very limits, and the rules in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import AliasChoices, BaseModel, Field

from tests.support.requests import refused
from worker.api.field_types import Allowed, Reference, Temperature, allowed, names
from worker.api.request import parse_request


class Rules(BaseModel):
    """A field of each kind."""

    whole: int = Field(default=1, ge=1, le=9)
    open_whole: int = 1
    above: float = Field(default=1.0, gt=0)
    from_on: float = Field(default=1.0, ge=0.5)
    up_to: float | None = Field(default=None, le=2)
    word: Literal["a", "b"] | None = None
    flag: bool | None = None
    told: str = Field(default="", examples=["#FFD700", "red"])
    own: Annotated[int, Allowed("a prime")] = 2
    maybe_own: Annotated[int, Allowed("a prime")] | None = None
    renamed: int = Field(default=1, validation_alias=AliasChoices("renamed", "other"))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("whole", "an integer from 1 to 9"),
        ("open_whole", "an integer"),
        ("above", "a number above 0 and up"),
        ("from_on", "a number from 0.5"),
        ("up_to", "a number to 2"),
        ("word", "one of a, b"),
        ("flag", "true or false"),
        ("told", "text such as #FFD700 or red"),
        ("own", "a prime"),
        ("maybe_own", "a prime"),
    ],
)
def test_what_a_field_may_hold_is_said_in_words(field: str, words: str) -> None:
    assert allowed(Rules.model_fields[field]) == words


def test_a_field_s_own_name_comes_first() -> None:
    assert names("renamed", Rules.model_fields["renamed"]) == ("renamed", "other")
    assert names("whole", Rules.model_fields["whole"]) == ("whole",)


def test_the_words_of_references_and_temperatures_name_their_limits() -> None:
    class Named(BaseModel):
        place: Reference = "a.wav"
        heat: Temperature = 1.0

    assert "at most 2048 characters" in allowed(Named.model_fields["place"])
    assert allowed(Named.model_fields["heat"]) == (
        "a number from 0 to 2, but none between 0 and 0.001"
    )


def place(given: str) -> str | None:
    return parse_request({"text": "x", "prompt_speech_url": given}).prompt_speech_url


def reason(given: str) -> str:
    error = refused({"text": "x", "prompt_speech_url": given})
    assert error.field == "prompt_speech_url"
    return error.message


def test_a_place_has_at_most_2048_characters() -> None:
    for start in ("", "s3://bucket/", "https://example.com/"):
        assert place(start + "a" * (2048 - len(start))) is not None
        assert "is 2049 characters long" in reason(start + "a" * (2049 - len(start)))


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


@pytest.mark.parametrize(
    "character", ["\x00", "\x08", "\x0e", "\x1b", "\x7f", "\x80", "\x84", "\x86", "\x9f"]
)
def test_control_characters_are_refused(character: str) -> None:
    message = refused({"text": f"a{character}b"}).message
    assert f"has the character U+{ord(character):04X} at position 1" in message


@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_halves_of_characters_are_refused(code: int) -> None:
    assert f"U+{code:04X} at position 1" in refused({"text": f"a{chr(code)}b"}).message


@pytest.mark.parametrize(
    "character", ["\t", "\n", "\x0c", "\x1f", " ", "~", "\x85", "\xa0", "©", "\ud7ff", "\ue000"]
)
def test_characters_beside_the_refused_ones_may_stay(character: str) -> None:
    assert parse_request({"text": f"a{character}b"}).text == f"a{character}b"


@pytest.mark.parametrize(("length", "taken"), [(0, True), (1, False), (64, False), (65, True)])
def test_what_reads_as_a_token_of_the_model_is_refused(length: int, taken: bool) -> None:
    text = f"say <|{'t' * length}|> now"
    if taken:
        assert parse_request({"text": text}).text == text
    else:
        assert "a token of the model, at 4" in refused({"text": text}).message


def test_text_and_transcript_are_stripped() -> None:
    job = {"text": " One.\n", "prompt_speech_url": "a.wav", "prompt_text": "\tTwo. "}
    asked = parse_request(job)
    assert (asked.text, asked.prompt_text) == ("One.", "Two.")


@pytest.mark.parametrize("name", ["0", "a.b.c", "A-_", "a."])
def test_names_of_all_allowed_characters(name: str) -> None:
    assert parse_request({"text": "x", "output_name": name}).output_name == name


@pytest.mark.parametrize("name", ["_a", "a...b", "a:b", "ａ", "", "a\n"])
def test_a_name_that_cannot_be_says_so(name: str) -> None:
    error = refused({"text": "x", "output_name": name})
    assert error.field == "output_name"
    assert "is not a name; it must be a name: 1 to 64 of the characters" in error.message


def test_of_several_wrong_settings_of_a_look_the_first_is_named() -> None:
    look = {"mode": "karaoke", "size": 4000, "outline": -1}
    message = refused({"text": "x", "subtitle_style": look}).message
    assert "has size 4000: " in message
    assert "outline -1" not in message
