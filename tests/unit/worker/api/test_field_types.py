"""The rules of a job's fields at their very limits, and the rules in words."""

from __future__ import annotations

import pytest
from pydantic import AliasChoices, BaseModel, Field

from tests.support.requests import refused
from worker.allowed_values import allowed
from worker.api.field_types import Reference, Temperature, names
from worker.api.request import parse_request


class Rules(BaseModel):
    """A field with one name, and one with two."""

    whole: int = 1
    renamed: int = Field(default=1, validation_alias=AliasChoices("renamed", "other"))


def test_a_field_s_own_name_comes_first() -> None:
    assert names("renamed", Rules.model_fields["renamed"]) == ("renamed", "other")
    assert names("whole", Rules.model_fields["whole"]) == ("whole",)


def test_the_words_of_references_and_temperatures_name_their_limits() -> None:
    class Named(BaseModel):
        place: Reference = "a.wav"
        heat: Temperature = 1.0

    assert "at most 8192 characters" in allowed(Named.model_fields["place"])
    assert allowed(Named.model_fields["heat"]) == (
        "a number from 0 to 2, but none between 0 and 0.001"
    )


def test_a_reference_is_kept_as_it_is_read_and_refused_with_the_reason() -> None:
    asked = parse_request({"text": "x", "prompt_speech_url": "S3://bucket/a.wav"})
    assert asked.prompt_speech_url == "s3://bucket/a.wav"
    error = refused({"text": "x", "prompt_speech_url": "a..b"})
    assert error.field == "prompt_speech_url"
    assert "'a..b' is neither a URL nor a name below voices/; it must be s3://" in error.message


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
    assert "has size 4000, which must be" in message
    assert "outline -1" not in message


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ({"primary_color": "red"}, "has primary_color 'red', which must be #RRGGBB"),
        ({"size": 3}, "has size 3, which must be a number from 8 to 400"),
        ({"resolution": "1x1"}, "has resolution '1x1', which must be WIDTHxHEIGHT in pixels"),
        ({"mode": "song"}, "has mode 'song', which must be one of line, karaoke"),
        ({"font": "-"}, "has font '-', which must be the name of a font"),
        ({"colour": "red"}, "has colour, which is not a setting"),
    ],
)
def test_a_style_that_is_wrong_is_told_what_it_may_hold(
    style: dict[str, object], said: str
) -> None:
    error = refused({"text": "a", "enable_subtitles": True, "subtitle_style": style})
    assert error.field == "subtitle_style"
    assert said in error.message
    assert "match pattern" not in error.message
