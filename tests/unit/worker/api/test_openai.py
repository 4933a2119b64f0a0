"""OpenAI's request in our own terms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.model_names import MODEL, ModelNotFoundError, check_model, model_names
from worker.api.openai import OpenAISpeech, parse_openai
from worker.api.openai_fields import OpenAISpeechFields
from worker.api.request import SpeechRequest
from worker.errors import RequestError

TEXT = "Hello there."


def parse(built_in: str = "alloy", **fields: Any) -> OpenAISpeech:
    body = {"input": TEXT, **fields}
    return parse_openai(body, "demo", lambda name: name in built_in.split())


def refused(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    return caught.value


def test_the_least_request_is_the_default_voice_as_mp3() -> None:
    asked = parse()
    assert asked.request == SpeechRequest(text=TEXT, voice="alloy", output_format="mp3")
    assert (asked.response_format, asked.stream_format) == ("mp3", "audio")
    assert asked.instructions is None


def test_where_the_operator_has_taken_that_voice_out_one_is_designed() -> None:
    assert parse(built_in="").request.style is not None


@pytest.mark.parametrize("voice", ["alloy", "of-mine", {"id": "of-mine"}])
def test_a_voice_is_given_by_its_name_or_its_id(voice: Any) -> None:
    named = voice["id"] if isinstance(voice, dict) else voice
    assert parse(voice=voice).request.voice == named


@pytest.mark.parametrize(
    "chooses",
    [
        {"speaker_gender": "male"},
        {"gender": "male"},
        {"pitch": "low"},
        {"speed": "low"},
        {"speed_value": 3},
        {"prompt_speech_url": "alice.wav"},
        {"prompt_speech_path": "alice.wav"},
    ],
)
def test_a_built_in_voice_gives_way_to_a_field_that_chooses(chooses: dict[str, Any]) -> None:
    assert parse(voice="alloy", **chooses).request.voice is None
    assert parse(**chooses).request.voice is None
    assert refused(voice="of-mine", **chooses).field is not None


@pytest.mark.parametrize("voice", [5, True, [], {}, {"id": "a", "name": "b"}, {"id": 5}, "a b"])
def test_no_other_voice_is_allowed(voice: Any) -> None:
    assert refused(voice=voice).field == "voice"
    assert refused(voice=voice, pitch="low").field in ("voice", "pitch")


@pytest.mark.parametrize("speed", [0.25, 0.3, 1, 3.5, 4, 4.0])
def test_a_number_in_speed_is_the_tempo(speed: float) -> None:
    assert parse(speed=speed).request.speed_shift == speed


@pytest.mark.parametrize(
    "speed", [0.24, 4.01, 0, -1, float("nan"), float("inf"), 10**400, True, [1]]
)
def test_no_other_tempo_is_allowed(speed: Any) -> None:
    assert refused(speed=speed).field == "speed"


def test_speed_is_given_once() -> None:
    assert refused(speed=2, speed_shift=1.5).field == "speed"
    assert parse(speed_shift=1.5).request.speed_shift == 1.5
    assert parse(speed="high").request.speed == "high"


def test_our_fields_stand_beside_and_are_checked_as_ours() -> None:
    asked = parse(seed=7, pitch_shift=2.0, enable_whisperx=True, save_voice="mine", pitch="low")
    assert (asked.request.seed, asked.request.pitch_shift) == (7, 2.0)
    assert asked.request.save_voice == "mine"
    assert refused(pitch_shift=20).field == "pitch_shift"
    assert refused(nonsense=1).field == "nonsense"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": "a" * 20_001}, "input"),
        ({"input": ["a"]}, "input"),
        ({"text": TEXT}, "text"),
        ({"response_format": "ogg"}, "response_format"),
        ({"response_format": {}}, "response_format"),
        ({"stream_format": "text"}, "stream_format"),
        ({"instructions": {}}, "instructions"),
        ({"speed_shift": 5}, "speed_shift"),
    ],
)
def test_a_fault_has_the_name_that_it_has_here(fields: dict[str, Any], name: str) -> None:
    error = refused(**fields)
    assert error.field == name
    assert error.message.startswith(name)


def test_null_counts_as_not_given() -> None:
    names = [*OpenAISpeechFields.model_fields]
    names.remove("input")
    assert parse(**dict.fromkeys(names)) == parse()


def test_every_name_of_the_model_is_taken_and_no_other() -> None:
    for name in model_names("demo"):
        check_model(name, "demo")
        parse(model=name)
    assert MODEL in model_names("demo")
    for name in ("gpt-4", 5, [], {}, True):
        with pytest.raises(ModelNotFoundError):
            check_model(name, "demo")


def test_turns_have_another_route() -> None:
    for fields in ({"input": "Hi."}, {}):
        with pytest.raises(RequestError, match="turns are taken by /v1/speech"):
            parse_openai({**fields, "turns": [{"text": "Hi."}]}, "demo", lambda _name: False)
    assert parse(markup=True, pronunciations={"a": "b"}).request.markup


def test_the_document_has_each_field_that_is_taken() -> None:
    documented = {*OpenAISpeechFields.model_fields}
    ours = {*SpeechRequest.model_fields} - {"text", "turns"}
    assert ours <= documented
    openais = {"model", "input", "voice", "response_format", "speed", "instructions"}
    assert documented - ours == {*openais, "stream_format"} - ours
    for name, info in OpenAISpeechFields.model_fields.items():
        assert info.description, name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from([*OpenAISpeechFields.model_fields, "text", "gender"]) | st.text(max_size=9),
    JSON,
    max_size=5,
)


@given(JSON | FIELDS)
def test_whatever_comes_is_a_request_or_an_error_in_words(body: object) -> None:
    try:
        parse_openai(body, "demo", lambda name: name == "alloy")
    except RequestError as error:
        told = (error.message, error.field)
    else:
        return
    assert all(told)
