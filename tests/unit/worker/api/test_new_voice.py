"""A voice to be added: names, transcripts and consent of strangers."""

from __future__ import annotations

from typing import Any

import pytest

from worker.api.field_types import MAX_PROMPT_TEXT
from worker.api.new_voice import MAX_CONSENT, parse_name, parse_new_voice
from worker.errors import RequestError

CONSENT = "I am the speaker, and agree."


def refused(**changed: Any) -> RequestError:
    given = {"name": "anna", "transcript": None, "consent": CONSENT} | changed
    with pytest.raises(RequestError) as caught:
        parse_new_voice(**given)
    return caught.value


def test_what_is_given_is_taken_without_white_space_around_it() -> None:
    asked = parse_new_voice("Anna.2", " Its words. ", f" {CONSENT} ")
    assert (asked.name, asked.transcript, asked.consent) == ("Anna.2", "Its words.", CONSENT)


@pytest.mark.parametrize("blank", [None, "", " \n "])
def test_a_blank_transcript_is_none(blank: str | None) -> None:
    assert parse_new_voice("anna", blank, CONSENT).transcript is None


NO_NAMES = [
    *("", ".", "..", "../anna", "a/b", "a\\b", "/etc/passwd", "a..b", ".anna", "-anna", "_anna"),
    *(
        "änna",
        "安娜",
        "anna ",
        "an\x00na",
        "anna\n",
        "anna\u202e",
        "a" * 65,
        "%2e%2e",
        "an\ud800na",
    ),
    *(None, 3, True, ["anna"]),
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused(name: object) -> None:
    error = refused(name=name)
    assert error.field == "name"
    assert "1 to 64 of the characters" in error.message
    assert error.message.isprintable()
    with pytest.raises(RequestError) as caught:
        parse_name(name, "voice")
    assert caught.value.field == "voice"


def test_the_longest_name_is_one() -> None:
    assert parse_name("a" * 64, "voice") == "a" * 64


@pytest.mark.parametrize(
    "transcript", ["a\x00b", "a\x1b[0m", "!?", "a\ud800", "<|im_end|> a", 7, "a" * 2001]
)
def test_a_transcript_is_checked_as_prompt_text_is(transcript: object) -> None:
    error = refused(transcript=transcript)
    assert error.field == "transcript"
    assert f"1 to {MAX_PROMPT_TEXT:,} characters" in error.message


@pytest.mark.parametrize(
    "consent",
    [
        *("", " ", "no", "No.", "FALSE", "0", "false", " none ", "null", "off"),
        *("yes\x00", "yes\nX-Header: 1", "yes\u2028no", "y" * (MAX_CONSENT + 1), "\ud800"),
        *(None, True, 1),
    ],
)
def test_without_consent_no_voice_is_added(consent: object) -> None:
    error = refused(consent=consent)
    assert error.field == "consent"
    assert "consents" in error.message


@pytest.mark.parametrize("consent", ["yes", "true", "1", "noted and agreed", "y" * MAX_CONSENT])
def test_any_words_that_do_not_deny_it_are_a_statement(consent: str) -> None:
    assert parse_new_voice("anna", None, consent).consent == consent


def test_all_faults_are_named_at_once() -> None:
    error = refused(name="../a", transcript="?", consent="no")
    assert error.field == "name"
    for field in ("name: '../a'", "transcript: '?'", "consent: 'no' says that there is none"):
        assert field in error.message
