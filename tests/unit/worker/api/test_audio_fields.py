"""Formats, rates, bit rates and tags that cannot be together are refused in words."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.support.requests import refused
from worker.api.openai import parse_openai
from worker.api.request import parse_request
from worker.api.speech import parse_live, parse_speech
from worker.audio.formats import ENDINGS, SAMPLE_RATES, Format, StreamFormat, bit_rates
from worker.audio.tags import Tags
from worker.errors import RequestError

FORMATS: tuple[Format, ...] = get_args(Format)


def asked(**fields: Any) -> dict[str, Any]:
    return {"text": "Hello.", **fields}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 17_123, 22_050, 44_100, 48_000])
def test_a_format_has_its_rates(kind: Format, rate: int) -> None:
    fields = asked(output_format=kind, sample_rate=rate)
    if rate in SAMPLE_RATES.get(kind, (rate,)):
        assert parse_request(fields).sample_rate == rate
        return
    error = refused(fields)
    assert error.field == "sample_rate"
    assert f"{kind} cannot have {rate} Hz" in error.message
    assert "24000" in error.message


@pytest.mark.parametrize("rate", [7_999, 48_001, 0, -1, 16_000.5, "16000", True])
def test_other_rates_are_refused(rate: object) -> None:
    error = refused(asked(sample_rate=rate))
    assert error.field == "sample_rate"
    assert "from 8000 to 48000" in error.message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bit_rate": 64}, "the format is wav"),
        ({"bit_rate": 64, "output_format": "flac"}, "only mp3 and opus"),
        ({"bit_rate": 64, "output_format": "aac"}, "only mp3 and opus"),
        ({"bit_rate": 63, "output_format": "mp3"}, "48, 56, 64"),
        ({"bit_rate": 192, "output_format": "mp3"}, "a sample_rate of 32000 or more"),
        ({"bit_rate": 8, "output_format": "mp3", "sample_rate": 44_100}, "give 32, 40"),
        ({"bit_rate": 128, "output_format": "mp3", "sample_rate": 8_000}, "sample_rate of 16000"),
        ({"bit_rate": 257, "output_format": "opus"}, "give 6 to 256"),
        ({"bit_rate": 5, "output_format": "opus"}, "from 6 to 320"),
        ({"bit_rate": 321, "output_format": "mp3"}, "from 6 to 320"),
    ],
)
def test_a_bit_rate_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    error = refused(asked(**fields))
    assert error.field == "bit_rate"
    assert words in error.message


@pytest.mark.parametrize("rate", [None, 8_000, 22_050, 48_000])
def test_those_that_can_be_are_taken(rate: int | None) -> None:
    for bit_rate in bit_rates("mp3", rate or 16_000):
        fields = asked(output_format="mp3", bit_rate=bit_rate, sample_rate=rate)
        assert parse_request(fields).bit_rate == bit_rate


def test_only_the_rate_is_blamed_where_it_is_wrong() -> None:
    error = refused(asked(output_format="opus", sample_rate=44_100, bit_rate=300))
    assert error.field == "sample_rate"
    assert "bit_rate" not in error.message


def test_tags_are_an_object_of_tags() -> None:
    request = parse_request(asked(tags={"title": "A", "album": None}))
    assert request.tags == Tags(title="A")
    assert parse_request(asked(tags={})).tags == Tags()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("A", "is not an object of tags"),
        ([], "is not an object of tags"),
        ({"titel": "A"}, "has titel, which is not a setting"),
        ({"title": "a\nb"}, "which must be 1 to 200 characters in one line"),
        ({"title": 3}, "which must be 1 to 200 characters"),
        ({"track": 0}, "which must be an integer from 1 to 9999"),
    ],
)
def test_other_tags_are_refused(tags: object, words: str) -> None:
    error = refused(asked(tags=tags))
    assert error.field == "tags"
    assert words in error.message


def test_pcm_has_no_place_for_tags() -> None:
    error = refused(asked(tags={"title": "A"}, output_format="pcm"))
    assert (error.field, "pcm has no place" in error.message) == ("tags", True)


@pytest.mark.parametrize(
    ("loudness", "fits"), [(-36, True), (-8, True), (-36.1, False), (-7, False)]
)
def test_a_loudness_is_one_that_speech_can_have(loudness: float, fits: bool) -> None:
    if fits:
        assert parse_request(asked(loudness=loudness)).loudness == loudness
    else:
        assert refused(asked(loudness=loudness)).field == "loudness"


class TestLive:
    """Audio that is sent while it is made: response_format counts, and loudness cannot be."""

    @pytest.mark.parametrize("kind", get_args(StreamFormat))
    def test_the_format_of_the_stream_is_the_one_that_counts(self, kind: StreamFormat) -> None:
        request = parse_live(asked(output_format="ogg"), kind)
        assert request.output_format == kind

    def test_what_is_no_format_at_all_is_refused_all_the_same(self) -> None:
        with pytest.raises(RequestError, match="output_format: 'wma' is not allowed"):
            parse_live(asked(output_format="wma"), "mp3")

    @pytest.mark.parametrize(
        ("kind", "fields", "field"),
        [
            ("mp3", {"bit_rate": 63}, "bit_rate"),
            ("pcm", {"bit_rate": 64}, "bit_rate"),
            ("opus", {"sample_rate": 44_100}, "sample_rate"),
            ("mp3", {"loudness": -16}, "loudness"),
            ("pcm", {"tags": {"title": "A"}}, "tags"),
            ("wav", {"tags": {"title": "A"}}, "tags"),
            ("aac", {"tags": {"title": "A"}}, "tags"),
        ],
    )
    def test_what_it_cannot_have_is_refused(
        self, kind: StreamFormat, fields: dict[str, Any], field: str
    ) -> None:
        for parse in (
            lambda: parse_live(asked(**fields), kind),
            lambda: parse_speech({**asked(**fields), "stream": True, "response_format": kind}),
            lambda: parse_openai(
                {"input": "Hello.", "response_format": kind, **fields}, "demo", lambda _name: True
            ),
        ):
            with pytest.raises(RequestError) as caught:
                parse()
            assert caught.value.field == field

    def test_a_stored_answer_may_have_all(self) -> None:
        request = parse_speech(asked(loudness=-16, tags={"title": "A"}, true_peak=-2)).request
        assert (request.loudness, request.true_peak) == (-16, -2)

    def test_a_stream_by_the_header_counts_as_one(self) -> None:
        with pytest.raises(RequestError, match="has left before its loudness is known"):
            parse_speech(asked(loudness=-16), streams=True)
        assert not parse_speech(asked(loudness=-16, stream=False), streams=True).streams


def test_an_ending_is_that_of_one_format_but_for_the_two_names_of_aac() -> None:
    assert len(set(ENDINGS.values())) == len(ENDINGS) - 1
