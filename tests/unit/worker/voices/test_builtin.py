"""The table of built-in voices, and the operator's changes of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from worker.api.request import SpeechRequest
from worker.errors import SetupError
from worker.speech.voice import GENDERS, LEVELS, Style
from worker.voices.builtin import BUILTIN, NAMES_MAX, Alias, Design, builtin_names, seed_of

OPENAI = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx"),
    *("sage", "shimmer", "verse"),
)


def test_the_names_are_openais_and_no_two_are_one_voice() -> None:
    assert tuple(BUILTIN) == OPENAI
    styles = [design.style for design in BUILTIN.values() if isinstance(design, Design)]
    assert len(set(styles)) == len(OPENAI)
    assert {style.gender for style in styles} == set(GENDERS)
    assert {style.pitch for style in styles} == set(LEVELS)
    assert {style.speed for style in styles} == {"low", "moderate", "high"}


def test_the_description_of_the_field_names_them_all() -> None:
    words = str(SpeechRequest.model_fields["voice"].description)
    assert all(name in words for name in OPENAI)


def test_a_voice_is_the_same_in_each_version_of_the_worker() -> None:
    """The seeds are part of what the voices sound like: a change of them is another voice."""
    assert BUILTIN["alloy"] == Design(Style("female", "low", "moderate"), 1708775109)
    assert BUILTIN["verse"] == Design(Style("male", "low", "high"), seed_of("verse"))
    assert len({seed_of(name) for name in OPENAI}) == len(OPENAI)


def test_without_a_setting_the_table_stands() -> None:
    assert builtin_names(None) == BUILTIN
    assert builtin_names("{}") == BUILTIN


def test_a_name_can_be_changed_taken_out_and_added() -> None:
    table = builtin_names(
        json.dumps(
            {
                "alloy": "anna",
                "nova": {"speaker_gender": "male", "pitch": "high", "seed": 5},
                "echo": None,
                "narrator": {"gender": "female", "pitch_value": 300, "speed": "low"},
                "guide": "onyx",
            }
        )
    )
    assert table["alloy"] == Alias("anna")
    assert table["nova"] == Design(Style("male", "high", "moderate"), 5)
    assert "echo" not in table
    narrator = Style("female", "moderate", "low", pitch_value=300)
    assert table["narrator"] == Design(narrator, seed_of("narrator"))
    assert table["guide"] == BUILTIN["onyx"]
    assert {name: table[name] for name in OPENAI if name not in {"alloy", "nova", "echo"}} == {
        name: BUILTIN[name] for name in OPENAI if name not in {"alloy", "nova", "echo"}
    }


def test_a_name_that_stands_for_itself_is_a_saved_voices() -> None:
    assert "nova" not in builtin_names('{"nova": "nova"}')


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("alloy", "is no JSON object"),
        ("[", "is no JSON object"),
        ("[" * 100_000, "is no JSON object"),
        ('["alloy"]', "must be a JSON object"),
        ('{"alloy": 3}', "alloy.*3 is no voice"),
        ('{"alloy": "../anna"}', "alloy.*'../anna' is not a name"),
        ('{"../alloy": "anna"}', "'../alloy' is not a name"),
        ('{"": "anna"}', "'' is not a name"),
        ('{"alloy": {"pitch": "highest"}}', "alloy.*pitch: 'highest'.*very_high"),
        ('{"alloy": {"pitch": "high", "pitch_value": 3}}', "alloy.*both set the pitch"),
        ('{"alloy": {"text": "x"}}', "alloy.*'text' is not a field of a designed voice"),
        ('{"alloy": {"seed": -1}}', "alloy.*seed"),
        ('{"alloy": {"seed": 1, "seed": 2}}', "stands in it twice"),
        ('{"alloy": "anna", "alloy": "otto"}', "stands in it twice"),
        ('{"alloy": "echo", "echo": "anna"}', "alloy stands for echo.*name anna"),
        (json.dumps({f"v{i}": "anna" for i in range(NAMES_MAX)}), "too many"),
    ],
)
def test_a_setting_that_is_none_is_refused_in_words(setting: str, words: str) -> None:
    with pytest.raises(SetupError, match=words) as caught:
        builtin_names(setting)
    assert caught.value.message.startswith("VOICE_NAMES: ")
    assert len(caught.value.message) < 600


def test_the_table_itself_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        BUILTIN["alloy"] = replace(BUILTIN["alloy"])  # type: ignore[index]
