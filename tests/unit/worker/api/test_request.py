"""What a job may ask: every field, its limits, the contradictions, and anything at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.requests import refused
from worker.api.field_types import names
from worker.api.request import MAX_FAULTS, SpeechRequest, parse_request
from worker.errors import RequestError
from worker.redaction import VALUE_MAX, redact
from worker.speech.voice import Style
from worker.subtitles.style import SubtitleStyle

REFERENCE = "https://example.com/alice.wav"
NAMES = [name for field, info in SpeechRequest.model_fields.items() for name in names(field, info)]


def test_a_text_is_enough_and_the_rest_has_the_documented_defaults() -> None:
    assert parse_request({"text": " Hello.\n"}).model_dump() == {
        "text": "Hello.",
        "turns": None,
        "markup": False,
        "pronunciations": None,
        "normalize": "auto",
        "prompt_speech_url": None,
        "prompt_text": None,
        "transcript_mismatch": "drop",
        "voice": None,
        "save_voice": None,
        "speaker_gender": None,
        "pitch": None,
        "speed": None,
        "pitch_value": None,
        "speed_value": None,
        "pitch_shift": 0.0,
        "speed_shift": 1.0,
        "multi_sentence_gap": 0.3,
        "task_token": None,
        "temperature": 0.8,
        "top_k": 50,
        "top_p": 0.95,
        "max_length": 3000,
        "seed": None,
        "output_name": "speech",
        "output_format": "wav",
        "sample_rate": None,
        "bit_rate": None,
        "loudness": None,
        "true_peak": None,
        "tags": None,
        "enable_whisperx": False,
        "enable_subtitles": False,
        "subtitle_style": None,
        "subtitle_format": "ass",
        "subtitle_bom": False,
        "max_retries": 1,
        "url_expiry": None,
        "stream": None,
    }


def test_a_request_cannot_be_changed() -> None:
    request = parse_request({"text": "Hello."})
    with pytest.raises(ValidationError):
        request.text = "Bye."


def test_null_is_a_field_not_given() -> None:
    job = dict.fromkeys(NAMES) | {"text": "Hello."}
    assert parse_request(job) == parse_request({"text": "Hello."})
    assert refused({"text": None}).field == "text"


LIMITS = {
    "sample_rate": (8_000, 48_000),
    "loudness": (-36, -8),
    "true_peak": (-9, 0),
    "pitch_value": (0, 1000),
    "speed_value": (0, 10),
    "pitch_shift": (-12, 12),
    "speed_shift": (0.25, 4.0),
    "multi_sentence_gap": (0, 5),
    "temperature": (0, 2),
    "top_k": (0, 8192),
    "max_length": (64, 8192),
    "max_retries": (0, 3),
    "seed": (0, 2**63 - 1),
    "url_expiry": (60, 604_800),
}
NUMBERS = [*LIMITS, "top_p"]


@pytest.mark.parametrize(("field", "limits"), LIMITS.items())
def test_the_limits_are_in_and_beyond_them_is_out(field: str, limits: tuple[float, float]) -> None:
    low, high = limits
    step = 1 if field in ("pitch_value", "speed_value", "seed") or low >= 60 else 0.001
    for value in limits:
        assert getattr(parse_request({"text": "x", field: value}), field) == value
    for value in (low - step, high + step):
        error = refused({"text": "x", field: value})
        assert error.field == field
        assert f"{field}: " in error.message
        assert f"from {low} to {high}" in error.message


def test_top_p_is_a_probability_above_0() -> None:
    for value in (1, 1.0, 0.001):
        assert parse_request({"text": "x", "top_p": value}).top_p == value
    for value in (0, 0.0, 1.001, -1, 1e-320, 0.0009):
        assert refused({"text": "x", "top_p": value}).field == "top_p"


def test_a_temperature_that_float32_cannot_divide_by_is_refused() -> None:
    for value in (1e-320, 1e-38, 0.0009):
        error = refused({"text": "x", "temperature": value})
        assert (error.field, "is too near to 0" in error.message) == ("temperature", True)
    for value in (0, 0.001):
        assert parse_request({"text": "x", "temperature": value}).temperature == value


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize(
    "value", [True, False, "1", "0.5", "", math.nan, math.inf, -math.inf, [1], {}, 10**400]
)
def test_only_a_number_is_a_number(field: str, value: object) -> None:
    error = refused({"text": "x", field: value})
    assert error.field == field
    assert redact(value) in error.message


@pytest.mark.parametrize("value", [1.0, 50.5])
def test_an_integer_is_written_without_a_point(value: float) -> None:
    assert refused({"text": "x", "top_k": value}).field == "top_k"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("speaker_gender", "female male"),
        ("pitch", "very_low low moderate high very_high"),
        ("speed", "very_low low moderate high very_high"),
        ("output_format", "wav flac mp3 ogg opus aac m4a pcm"),
        ("subtitle_format", "ass srt vtt"),
    ],
)
def test_words_are_upstreams_and_no_others(field: str, values: str) -> None:
    for value in values.split():
        assert getattr(parse_request({"text": "x", field: value}), field) == value
    for value in ("Female", "", "medium", 1, True, ["low"]):
        error = refused({"text": "x", field: value})
        assert error.field == field
        assert ", ".join(values.split()) in error.message


@pytest.mark.parametrize(
    ("alias", "field", "value"),
    [("prompt_speech_path", "prompt_speech_url", REFERENCE), ("gender", "speaker_gender", "male")],
)
def test_upstreams_names_are_aliases(alias: str, field: str, value: str) -> None:
    assert getattr(parse_request({"text": "x", alias: value}), field) == value
    error = refused({"text": "x", alias: value, field: value})
    assert alias in error.message
    assert field in error.message
    assert refused({"text": "x", alias: 1}).field == alias


@pytest.mark.parametrize("token", ["zero_shot", "cross_lingual", "continue"])
def test_the_ways_to_use_a_reference(token: str) -> None:
    job = {"text": "x", "prompt_speech_url": REFERENCE, "prompt_text": "a"}
    assert parse_request(job | {"task_token": token}).task_token == token
    for wrong in ("", "Continue", "clone", 1):
        error = refused(job | {"task_token": wrong})
        assert error.field == "task_token"
        assert "must be one of zero_shot, cross_lingual, continue" in error.message


@pytest.mark.parametrize("field", ["enable_whisperx", "enable_subtitles", "stream"])
def test_only_true_and_false_are_switches(field: str) -> None:
    for value in (True, False):
        assert getattr(parse_request({"text": "x", field: value}), field) is value
    for wrong in (0, 1, "true", "", []):
        error = refused({"text": "x", field: wrong})
        assert error.field == field
        assert f"{field}: {redact(wrong)} is not allowed; it must be true or false" in error.message


def test_an_alias_that_is_null_leaves_the_field_as_it_is() -> None:
    job = {"text": "x", "gender": None, "speaker_gender": "male"}
    assert parse_request(job).speaker_gender == "male"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (
            {"text": "x", "top_p": 2},
            "top_p: 2 is not allowed; it must be a number from 0.001 to 1",
        ),
        (
            {"text": "x", "speed_value": None, "pitch_value": 1001},
            "pitch_value: 1001 is not allowed; it must be an integer from 0 to 1000",
        ),
        (
            {"text": "x", "output_name": "a/b"},
            (
                "output_name: 'a/b' is not a name; it must be a name: 1 to 64 of the characters "
                "A-Z a-z 0-9 . _ -, a letter or digit first, never two dots in a row"
            ),
        ),
        (
            {"text": "", "gender": "x"},
            (
                "text: '' is empty; it must be 1 to 20,000 characters with at least one letter or "
                "digit, without control characters. gender: 'x' is not allowed; it must be one of "
                "female, male"
            ),
        ),
        (
            {},
            (
                "text is required; it must be 1 to 20,000 characters with at least one letter or "
                "digit, without control characters"
            ),
        ),
        (
            {"text": "x", "gender": "male", "speaker_gender": "male"},
            "gender and speaker_gender are two names of one field; give one of them",
        ),
        ({"text": "x", "sede": 1}, "sede is not a field of a job; did you mean seed?"),
        (
            {"text": "x", "öäü": 1},
            "öäü is not a field of a job; docs/API.md lists them all",
        ),
        (
            {"text": "x", "a b": 1},
            "'a b' is not a field of a job; docs/API.md lists them all",
        ),
        (
            {"text": "x", 7: 1},
            "7 is not a field of a job; docs/API.md lists them all",
        ),
        (
            [1],
            "input: [1] is not allowed; it must be an object with at least the field text",
        ),
        (
            {"text": "x", "voice": "a", "pitch": "low", "speed": "low", "speed_value": 0},
            (
                "voice and pitch both choose a voice; give one of prompt_speech_url, voice or "
                "speaker_gender, pitch, speed, pitch_value, speed_value. "
                "speed and speed_value both set the speed; give one of them"
            ),
        ),
        (
            {"text": "x", "voice": "a", "prompt_speech_url": "a.wav"},
            (
                "prompt_speech_url and voice both choose a voice; give one of prompt_speech_url, "
                "voice or speaker_gender, pitch, speed, pitch_value, speed_value"
            ),
        ),
        (
            {"text": "x", "prompt_text": "a"},
            (
                "prompt_text is the transcript of prompt_speech_url, which is missing; give "
                "prompt_speech_url too, or leave prompt_text out"
            ),
        ),
        (
            {"text": "x", "voice": "a", "save_voice": "a"},
            (
                "save_voice would save the voice 'a', which is saved already; give voice or "
                "save_voice, not both"
            ),
        ),
        (
            {"text": "x", "task_token": "continue"},
            (
                "task_token 'continue' needs a recording or a saved voice; give prompt_speech_url "
                "or voice, or leave task_token out"
            ),
        ),
        (
            {"text": "x", "prompt_speech_url": "a.wav", "task_token": "continue"},
            (
                "task_token 'continue' needs the words of the recording, to continue from them; "
                "give its transcript as prompt_text"
            ),
        ),
    ],
)
def test_a_message_names_the_field_the_value_and_what_is_allowed(job: object, message: str) -> None:
    assert refused(job).message == message


@pytest.mark.parametrize(
    ("turns", "field", "message"),
    [
        ("x", "turns", "turns: 'x' is not allowed; it must be a list of 1 to 500 turns"),
        ([], "turns", "turns: [] is not allowed; it must be a list of 1 to 500"),
        ([{"text": "a"}] * 501, "turns", "is not allowed; it must be a list of 1 to 500"),
        (["x"], "turns[0]", "turns[0]: 'x' is not allowed; it must be an object"),
        ([{}], "turns[0].text", "turns[0].text is required; it must be 1 to 20,000"),
        ([{"text": None}], "turns[0].text", "turns[0].text is required"),
        ([{"text": "a"}, {"text": "…"}], "turns[1].text", "turns[1].text: '…' has no letter"),
        ([{"text": "a", "pich": 1}], "turns[0]", "turns[0]: pich is not a field of a turn; did"),
        ([{"text": "a", "seed": 1}], "turns[0]", "is not a field of a turn; "),
        ([{"text": "a", "pause": 11}], "turns[0].pause", "11 is not allowed; it must be a number"),
        ([{"text": "a", "pause": "1"}], "turns[0].pause", "'1' is not allowed"),
        ([{"text": "a", "speed_shift": 5.0}], "turns[0].speed_shift", "from 0.25 to 4.0"),
        ([{"text": "a", "gender": "x"}], "turns[0].gender", "it must be one of female, male"),
        (
            [{"text": "a", "gender": "male", "speaker_gender": "male"}],
            "turns[0]",
            "turns[0]: gender and speaker_gender are two names of one field",
        ),
        (
            [{"text": "a"}, {"text": "a", "voice": "x", "pitch": "low"}],
            "turns[1].pitch",
            "turns[1]: voice and pitch both choose a voice",
        ),
        (
            [{"text": "a", "prompt_text": "b"}],
            "turns[0].prompt_text",
            "turns[0]: prompt_text is the transcript of prompt_speech_url, which is missing",
        ),
        ([{"text": "a" * 15_000}] * 2, "turns", "30000 characters long together; at most 20,000"),
        *(
            ([{"text": "a", "speaker": name}], "turns[0].speaker", "is no speaker's name")
            for name in ("", " ", "-a", "a" * 41, "a,b", "a:b", "<a>", "a&b", "{a}", "a\nb\\", "🎭")
        ),
    ],
)
def test_what_is_wrong_with_a_turn_is_told_with_its_number(
    turns: object, field: str, message: str
) -> None:
    error = refused({"turns": turns})
    assert error.field == field
    assert message in error.message


@pytest.mark.parametrize("name", ["Anna", "Dr. O’Brien", "小明", "राम", "Speaker 2", "A-B_(c)"])
def test_a_speaker_has_a_name_in_any_writing(name: str) -> None:
    (turn,) = parse_request({"turns": [{"text": "a", "speaker": f" {name} "}]}).turns or ()
    assert turn.speaker == name


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"turns": [{"text": "a"}], "text": "b"}, "turns", "text and turns both say what"),
        ({"turns": [{"text": "a"}], "save_voice": "v"}, "save_voice", "turns may have several"),
        ({"turns": [{"text": "a"}], "task_token": "zero_shot"}, "task_token", "needs a recording"),
        (
            {"turns": [{"text": "a", "voice": "v"}], "task_token": "continue"},
            "task_token",
            "'continue' is for one voice",
        ),
        (
            {"text": "[voice:v] a", "markup": True, "voice": "w", "task_token": "continue"},
            "task_token",
            "'continue' is for one voice",
        ),
        (
            {"text": "a [voice:v] b", "markup": True, "save_voice": "w"},
            "save_voice",
            "the text has '[voice:v]' at position 2; save each voice with a job of its own",
        ),
        ({"text": "a [pause:x] b", "markup": True}, "text", "text has '[pause:x]' at position 2"),
        ({"text": "a [voice:../x]", "markup": True}, "text", "whose value must be a name: 1 to 64"),
        ({"text": "[voice:a b] c", "markup": True}, "text", "'[voice:a b]' at position 0, whose"),
        ({"text": "[pause:1s]", "markup": True}, "text", "no letter or digit beside its tags"),
        (
            {"turns": [{"text": "a"}, {"text": "[pause:x] b"}], "markup": True},
            "turns[1].text",
            "turns[1].text has '[pause:x]' at position 0",
        ),
        (
            {"text": "a", "markup": True, "pronunciations": {"a": "b [pause:1s]"}},
            "pronunciations",
            "'a' is said as 'b [pause:1s]', which has a tag",
        ),
    ],
)
def test_tags_and_turns_go_with_what_they_can(
    asked: dict[str, object], field: str, message: str
) -> None:
    error = refused(asked)
    assert error.field == field
    assert message in error.message


def test_what_goes_with_tags_and_turns() -> None:
    parse_request({"text": "a [pause:1s] b", "markup": True, "save_voice": "v"})
    parse_request(
        {"text": "a [pause:1s] b", "voice": "v", "markup": True, "task_token": "continue"}
    )
    parse_request({"text": "[voice:v] b", "markup": True, "task_token": "cross_lingual"})
    parse_request({"turns": [{"text": "a", "voice": "v"}], "task_token": "cross_lingual"})
    parse_request({"text": "[pause:x] [voice:../] a", "pronunciations": {"a": "[pause:1s]"}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x", "pronunciations: 'x' is no object; it must be an object of up to 200 words"),
        ({str(n): "a" for n in range(201)}, "has 201 words"),
        ({"": "a"}, "has '', which is no word"),
        ({" ": "a"}, "which is no word"),
        ({"a" * 61: "a"}, "which is no word"),
        ({"a\x00": "a"}, "which is no word"),
        ({"a": 1}, "says 'a' as 1, which is no text"),
        ({"a": ""}, "says 'a' as '', which is empty"),
        ({"a": "b" * 101}, "which is 101 characters long"),
        ({"a": "<|x|>"}, "which has '<|x|>', a token of the model, at 0"),
        ({"a": "b\x07"}, "which has the character U+0007 at position 1"),
        ({"a": "..."}, "which has no letter or digit"),
    ],
)
def test_pronunciations_are_words_and_what_may_be_said(given: object, message: str) -> None:
    error = refused({"text": "x", "pronunciations": given})
    assert error.field == "pronunciations"
    assert message in error.message


def test_white_space_in_a_word_is_one_space() -> None:
    asked = parse_request({"text": "x", "pronunciations": {" New \n York": " ny "}})
    assert asked.pronunciations == {"New York": "ny"}


def test_three_ways_to_a_voice_are_two_contradictions() -> None:
    error = refused({"text": "x", "prompt_speech_url": "a.wav", "voice": "a", "pitch_value": 0})
    assert error.field == "voice"
    assert "prompt_speech_url and voice both choose a voice" in error.message
    assert "prompt_speech_url and pitch_value both choose a voice" in error.message


@pytest.mark.parametrize("field", ["pitch_value", "speed_value"])
def test_nought_is_a_value_like_others(field: str) -> None:
    assert getattr(parse_request({"text": "x", field: 0}).style, field) == 0
    assert refused({"text": "x", field: 0, field.removesuffix("_value"): "low"}).field == field
    assert refused({"text": "x", field: 0, "voice": "a"}).field == field


@pytest.mark.parametrize(("count", "more"), [(10, None), (11, 1), (12, 2), (30, 20)])
def test_ten_faults_are_told_and_the_others_counted(count: int, more: int | None) -> None:
    jobs: list[dict[str, object]] = [{"text": "x"} | {f"wrong{i}": i for i in range(count)}]
    jobs.append({f"wrong{i}": i for i in range(count - 1)})  # and no text
    for job in jobs:
        error = refused(job)
        assert error.field == "wrong0"
        told = error.message.split(". ")
        assert len(told) == 10 + (more is not None)
        assert (told[-1] == f"and {more} more") is (more is not None)


def test_more_than_ten_known_fields_that_are_wrong_are_counted_too() -> None:
    wrong = [name for name in NAMES if name not in ("text", "gender", "prompt_speech_path")][:12]
    error = refused({"text": "x"} | {name: [] for name in wrong})
    assert error.message.endswith(". and 2 more")
    assert error.field == wrong[0]


@pytest.mark.parametrize(("length", "quoted"), [(64, False), (65, True)])
def test_a_name_that_is_no_word_of_64_characters_is_quoted(length: int, quoted: bool) -> None:
    name = "q" * length
    assert refused({"text": "x", name: 1}).field == (f"'{name}'" if quoted else name)


@pytest.mark.parametrize(
    ("name", "near"), [("temprature", "temperature"), ("promt_text", "prompt_text")]
)
def test_an_unknown_field_is_named_with_the_nearest_known(name: str, near: str) -> None:
    error = refused({"text": "x", name: 1})
    assert error.field == name
    assert f"did you mean {near}?" in error.message


def test_every_fault_is_told_and_the_first_is_the_field() -> None:
    error = refused({"text": "x", "top_p": 2, "seed": -1, "sede": 1})
    assert error.field == "sede"
    assert all(word in error.message for word in ("sede", "top_p: 2", "seed: -1"))


def test_a_message_stays_short_whatever_was_sent() -> None:
    error = refused({f"field{i}" * 100: "x" * 10_000 for i in range(5_000)})
    assert f"and {5_000 + 1 - MAX_FAULTS} more" in error.message
    assert len(error.message) < 3_000
    assert len(error.field or "") <= VALUE_MAX


@pytest.mark.parametrize("job", [None, [], ["text"], "text", 1, True, ()])
def test_an_input_that_is_no_object_is_refused(job: object) -> None:
    error = refused(job)
    assert error.field == "input"
    assert "must be an object" in error.message


def test_an_integer_too_long_to_be_written_is_refused() -> None:
    assert "an integer of more than 77 digits" in refused({"text": "x", "seed": 10**5000}).message


def test_deep_nesting_is_refused_like_any_wrong_type() -> None:
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    assert refused({"text": deep}).field == "text"
    assert refused({"text": "x", "pitch_shift": {"a": deep}}).field == "pitch_shift"


@pytest.mark.parametrize("field", ["text", "prompt_text"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        (" \n\t\u3000", "is empty"),
        ("…!? 😀 —", "has no letter or digit, so there is nothing to say"),
        ("a\0b", "U+0000 at position 1"),
        ("\x1b[31mred", "U+001B at position 0"),
        ("a\x7f", "U+007F"),
        ("a\x9b", "U+009B"),
        ("a\ud800b", "U+D800"),
        ("a <|im_end|> b", "a token of the model"),
        ("<|bicodec_semantic_1|>", "a token of the model"),
    ],
)
def test_text_that_cannot_be_spoken_is_refused(field: str, value: str, reason: str) -> None:
    error = refused({"text": "x", "prompt_speech_url": REFERENCE, field: value})
    assert error.field == field
    assert reason in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "text", ["7", "好", "é", "ß", "٣", "a < b | c > d", "a\tb\r\nc\x85d", "👍a"]
)
def test_text_with_a_letter_or_digit_of_any_script_is_taken(text: str) -> None:
    assert parse_request({"text": text}).text == text


@pytest.mark.parametrize(("field", "limit"), [("text", 20_000), ("prompt_text", 2_000)])
def test_length_counts_after_stripping(field: str, limit: int) -> None:
    job = {"text": "x", "prompt_speech_url": REFERENCE}
    parse_request(job | {field: " " * 100 + "x" * limit})
    error = refused(job | {field: "x" * (limit + 1)})
    assert f"is {limit + 1} characters long" in error.message
    assert f"{limit:,}" in error.message


@pytest.mark.parametrize("field", ["voice", "save_voice", "output_name"])
def test_names_are_safe_in_paths(field: str) -> None:
    for name in ("a", "Alice_2.final-mix", "x" * 64):
        assert getattr(parse_request({"text": "x", field: name}), field) == name
    for name in ("", ".a", "-a", "a/b", "a..b", "a b", "é", "x" * 65, "a\n", "a\\b", "con:"):
        assert refused({"text": "x", field: name}).field == field


@pytest.mark.parametrize(
    ("given_place", "place"),
    [
        ("alice.wav", "alice.wav"),
        ("voices/alice.wav", "alice.wav"),
        ("team/李雷-2.flac", "team/李雷-2.flac"),
        ("s3://my-bucket/voices/a+b.wav", "s3://my-bucket/voices/a+b.wav"),
        ("S3://my-bucket/a.wav", "s3://my-bucket/a.wav"),
        ("HTTPS://example.com/a.wav?x=1", "https://example.com/a.wav?x=1"),
        ("https://[2001:db8::1]:8443/a.wav", "https://[2001:db8::1]:8443/a.wav"),
    ],
)
def test_a_reference_is_a_url_or_a_name_below_voices(given_place: str, place: str) -> None:
    assert parse_request({"text": "x", "prompt_speech_url": given_place}).prompt_speech_url == place


@pytest.mark.parametrize(
    "place",
    [
        "",
        "voices/",
        "/etc/passwd",
        "../a.wav",
        "a/../b.wav",
        "voices/../b.wav",
        "a//b.wav",
        ".hidden",
        "a b.wav",
        "a\\b.wav",
        "C:\\a.wav",
        "http://example.com/a.wav",
        "file:///etc/passwd",
        "ftp://example.com/a.wav",
        "data:audio/wav;base64,AAAA",
        "https:example.com",
        "https://",
        "https:///a.wav",
        "https://example.com:99999/a.wav",
        "https://[::1/a.wav",
        "https://user:pw@example.com/a.wav",
        "https://example.com/a b.wav",
        "https://example.com/\x00",
        "https://example.com/\ud800",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/a/../b",
        "s3://bucket//a",
        "s3:///a.wav",
        "https://example.com/" + "a" * 8192,
    ],
)
def test_other_places_are_refused_in_words(place: str) -> None:
    error = refused({"text": "x", "prompt_speech_url": place})
    assert error.field == "prompt_speech_url"
    assert "s3://BUCKET/KEY, an https:// URL or the name of a file below voices/" in error.message


def test_messages_show_no_secret_of_a_url() -> None:
    for place in (
        "http://example.com/a.wav?X-Amz-Signature=SECRET",
        "https://me:SECRET@example.com/a.wav",
        f"https://me:SECRET{'x' * 100}@example.com/a.wav",
    ):
        job = {"text": "x", "prompt_speech_url": place}
        assert "SECRET" not in refused(job).message
        assert "SECRET" not in refused({"text": "x", "prompt_speech_url": [place]}).message


REF = {"prompt_speech_url": REFERENCE}


@pytest.mark.parametrize(
    ("job", "field", "other"),
    [
        (REF | {"voice": "a"}, "voice", "prompt_speech_url"),
        (REF | {"pitch": "low"}, "pitch", "prompt_speech_url"),
        (REF | {"gender": "male"}, "speaker_gender", "prompt_speech_url"),
        ({"voice": "a", "speed_value": 3}, "speed_value", "voice"),
        ({"voice": "a", "speaker_gender": "male"}, "speaker_gender", "voice"),
        ({"pitch": "low", "pitch_value": 3}, "pitch_value", "pitch"),
        ({"speed": "low", "speed_value": 3}, "speed_value", "speed"),
        ({"prompt_text": "a"}, "prompt_text", "prompt_speech_url"),
        ({"prompt_text": "a", "voice": "a"}, "prompt_text", "prompt_speech_url"),
        ({"voice": "a", "save_voice": "b"}, "save_voice", "voice"),
        ({"task_token": "zero_shot"}, "task_token", "prompt_speech_url"),
        ({"task_token": "cross_lingual", "pitch": "low"}, "task_token", "voice"),
        ({"task_token": "continue"}, "task_token", "prompt_speech_url"),
        (REF | {"task_token": "continue"}, "task_token", "prompt_text"),
    ],
)
def test_contradictions_name_both_fields(job: dict[str, object], field: str, other: str) -> None:
    error = refused({"text": "x"} | job)
    assert error.field == field
    assert field in error.message
    assert other in error.message


@pytest.mark.parametrize(
    ("job", "uses_transcript", "continues"),
    [
        (REF, True, False),
        (REF | {"prompt_text": "a", "task_token": "zero_shot"}, True, False),
        (REF | {"prompt_text": "a", "task_token": "cross_lingual"}, False, False),
        (REF | {"prompt_text": "a", "task_token": "continue"}, True, True),
        ({"voice": "a", "task_token": "continue"}, True, True),
        ({"voice": "a", "task_token": "cross_lingual"}, False, False),
        (REF | {"save_voice": "b"}, True, False),
    ],
)
def test_a_reference_or_saved_voice_leaves_no_style(
    job: dict[str, object], *, uses_transcript: bool, continues: bool
) -> None:
    request = parse_request({"text": "x"} | job)
    assert request.style is None
    assert (request.uses_transcript, request.continues) == (uses_transcript, continues)


def test_a_style_is_filled_up() -> None:
    default = Style("female", "moderate", "moderate", None, None)
    assert parse_request({"text": "x"}).style == default
    job = {"text": "x", "gender": "male", "pitch_value": 200, "speed": "very_low"}
    assert parse_request(job).style == Style("male", "moderate", "very_low", 200, None)
    job = {"text": "x", "pitch": "very_high", "speed_value": 3}
    assert parse_request(job).style == Style("female", "very_high", "moderate", None, 3)
    job = {"text": "x", "save_voice": "mine"}
    assert parse_request(job).style == default


@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_a_subtitle_style_is_a_mode_or_an_object_of_settings(mode: str) -> None:
    short = parse_request({"text": "x", "subtitle_style": mode}).subtitle_style
    assert short == SubtitleStyle(mode=mode)
    job = {"text": "x", "subtitle_style": {"mode": mode, "size": 40, "primary_color": "#ff0000"}}
    long = parse_request(job).subtitle_style
    assert long == SubtitleStyle(mode=mode, size=40, primary_colour="#ff0000")


@pytest.mark.parametrize(
    ("style", "part"),
    [
        ("neon", "'neon' is neither a mode nor an object"),
        (3, "3 is neither a mode nor an object"),
        ({"size": 4000}, "has size 4000"),
        ({"font": "A,B{\\b1}"}, "has font "),
        ({"primary_colour": "red"}, "has primary_colour 'red'"),
        ({"blink": True}, "has blink, which is not a setting"),
    ],
)
def test_a_subtitle_style_that_cannot_be_says_which_setting_is_wrong(
    style: object, part: str
) -> None:
    error = refused({"text": "x", "subtitle_style": style})
    assert error.field == "subtitle_style"
    assert part in error.message
    assert "must be line, karaoke or an object of mode, font, size" in error.message


def test_subtitles_imply_timings() -> None:
    assert parse_request({"text": "x", "enable_subtitles": True}).wants_timings
    assert parse_request({"text": "x", "enable_whisperx": True}).wants_timings
    assert not parse_request({"text": "x"}).wants_timings


VALID = st.fixed_dictionaries(
    {"text": st.text(min_size=1, max_size=50).map(lambda text: f"a{text}")},
    optional={
        "prompt_speech_url": st.sampled_from(["a.wav", REFERENCE, "s3://bucket/a.wav"]),
        "prompt_text": st.just("What is said."),
        "voice": st.just("alice"),
        "save_voice": st.just("alice"),
        "gender": st.sampled_from(["female", "male"]),
        "pitch": st.just("low"),
        "speed_value": st.integers(0, 10),
        "pitch_shift": st.floats(-12, 12),
        "task_token": st.sampled_from(["zero_shot", "cross_lingual", "continue"]),
        "top_k": st.integers(0, 8192),
        "seed": st.integers(0, 2**63 - 1),
        "url_expiry": st.integers(60, 604_800),
    },
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.sampled_from(["", "\0", "\ud800", "{reason}", "%s", "<|im_end|>", 10**400, REFERENCE])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=3,
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=12) | st.integers() | st.none()


def is_answered(job: object) -> None:
    """A valid request, or an error that can be read and sent; never anything else."""
    try:
        request = parse_request(job)
    except RequestError as caught:
        error = caught
    else:
        assert parse_request(request.model_dump(exclude_none=True)) == request
        return
    assert error.field
    assert error.field in error.message
    assert error.message.isprintable()
    assert len(error.message) < 5_000
    error.message.encode()


@settings(max_examples=500, deadline=None)
@given(ANYTHING)
def test_anything_at_all_is_answered(job: object) -> None:
    is_answered(job)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(KEYS, ANYTHING, max_size=3))
def test_objects_of_all_kinds_are_answered(job: dict[object, object]) -> None:
    is_answered(job)


@settings(max_examples=1_000, deadline=None)
@given(VALID, st.dictionaries(KEYS, ANYTHING, max_size=2), st.sets(KEYS, max_size=1))
def test_nearly_valid_jobs_are_answered(
    job: dict[object, object], wrong: dict[object, object], missing: set[object]
) -> None:
    merged = {key: value for key, value in (job | wrong).items() if key not in missing}
    is_answered(merged)


@settings(max_examples=300, deadline=None)
@given(SCALARS | ANYTHING)
def test_quotes_are_short_and_printable(value: object) -> None:
    assert len(redact(value)) <= VALUE_MAX
    assert redact(value).isprintable()


def test_a_request_that_is_no_object_is_refused() -> None:
    for asked in ("text", ["text"], None):
        with pytest.raises(ValidationError):
            SpeechRequest.model_validate(asked)


def test_a_look_may_be_given_as_one() -> None:
    look = SubtitleStyle(max_columns=20)
    assert SpeechRequest(text="Hello.", subtitle_style=look).subtitle_style == look
