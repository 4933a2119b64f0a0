"""Which voice a job speaks with, which it keeps, and what the answer says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from worker.api.request import parse_request
from worker.api.response import VoiceUsed
from worker.cancellation import Cancellation
from worker.errors import RequestError, VoiceError
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import DesignedVoice, Engine
from worker.speech.voice import Style, Voice
from worker.voices.choose import ChosenVoice, VoiceSources, choose_voice
from worker.voices.library import Voices

SAMPLING = Sampling(seed=7)
TIMBRE = Voice((1, 2), (3, 4))
WHOLE = Voice((1, 2), (3, 4), "Its words.")
PLACE = "https://example.com/a.wav"


@dataclass
class Stage:
    """An engine, voices and a fetcher in one: it notes what it is asked."""

    saved_voice: Voice = WHOLE
    asked: list[tuple[object, ...]] = field(default_factory=list)
    cancellation: Cancellation = field(default_factory=Cancellation)
    builtin: frozenset[str] = frozenset()
    warnings: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)

    def design(self, *asked: object) -> DesignedVoice:
        self.asked.append(("design", *asked))
        return DesignedVoice(TIMBRE, 38)

    def fetch(self, place: str, folder: Path, *cancellation: object) -> Path:
        self.asked.append(("fetch", place, folder, *cancellation))
        return folder / "reference.wav"

    def listen(
        self,
        file: Path,
        transcript: str | None,
        *cancellation: object,
        warn: Callable[[str], None],
        mismatch: str,
    ) -> Voice:
        self.mismatches.append(mismatch)
        self.asked.append(("listen", file, transcript, *cancellation))
        warn("of the recording")
        return Voice((1, 2), (3, 4), transcript)

    def saved(self, name: str, *cancellation: object) -> Voice:
        self.asked.append(("saved", name, *cancellation))
        return self.saved_voice

    def is_builtin(self, name: str) -> bool:
        return name in self.builtin

    def check_free(self, name: str, field: str) -> None:
        if name in self.builtin:
            raise RequestError(f"{field}: taken", field=field)

    def choose(self, **job: object) -> ChosenVoice:
        return choose_voice(
            parse_request({"text": "One. Two."} | job),
            "One.",
            SAMPLING,
            VoiceSources(
                cast("Engine", self),
                cast("Voices", self),
                self.fetch,
                Path("scratch"),
                self.cancellation,
                self.warnings.append,
            ),
        )


def test_a_voice_is_designed_for_the_first_sentence() -> None:
    stage = Stage()
    chosen = stage.choose(gender="male", save_voice="bob")
    assert chosen == ChosenVoice(TIMBRE, TIMBRE, VoiceUsed(source="style", name="bob"), 38)
    assert stage.asked == [("design", Style("male"), "One.", SAMPLING, stage.cancellation)]


def test_a_voice_that_is_not_saved_has_no_name() -> None:
    assert Stage().choose().used == VoiceUsed(source="style", name=None)
    assert Stage().choose(prompt_speech_url=PLACE).used == VoiceUsed(source="reference", name=None)


@pytest.mark.parametrize("words", [None, "Its words."])
def test_a_reference_is_fetched_and_heard(words: str | None) -> None:
    stage = Stage()
    chosen = stage.choose(prompt_speech_url=PLACE, prompt_text=words, save_voice="bob")
    whole = Voice((1, 2), (3, 4), words)
    assert chosen == ChosenVoice(whole, whole, VoiceUsed(source="reference", name="bob"), 0)
    assert stage.asked == [
        ("fetch", PLACE, Path("scratch"), stage.cancellation),
        ("listen", Path("scratch/reference.wav"), words, stage.cancellation),
    ]
    assert stage.warnings == ["of the recording"]


def test_a_saved_voice_is_looked_up_by_its_name() -> None:
    stage = Stage()
    assert stage.choose(voice="bob") == ChosenVoice(
        WHOLE, WHOLE, VoiceUsed(source="saved", name="bob"), 0
    )
    assert stage.asked == [("saved", "bob", stage.cancellation)]


@pytest.mark.parametrize(
    "job", [{"voice": "bob"}, {"prompt_speech_url": PLACE, "prompt_text": "Its words."}]
)
def test_another_language_takes_the_timbre_alone_and_keeps_the_transcript(
    job: dict[str, object],
) -> None:
    chosen = Stage().choose(**job, task_token="cross_lingual")
    assert chosen.speaking == TIMBRE
    assert chosen.whole == WHOLE


def test_to_continue_wants_a_saved_voice_with_a_transcript() -> None:
    assert Stage().choose(voice="bob", task_token="continue").speaking == WHOLE
    with pytest.raises(VoiceError, match="'bob' was saved without a transcript") as caught:
        Stage(TIMBRE).choose(voice="bob", task_token="continue")
    assert caught.value.field == "voice"
    assert "save it again with prompt_text" in caught.value.message


def test_a_built_in_voice_is_called_so() -> None:
    stage = Stage(builtin=frozenset({"alloy"}))
    assert stage.choose(voice="alloy").used == VoiceUsed(source="builtin", name="alloy")
    stage.saved_voice = TIMBRE
    with pytest.raises(VoiceError, match="'alloy' is a built-in voice without a transcript"):
        stage.choose(voice="alloy", task_token="continue")


@pytest.mark.parametrize("job", [{}, {"prompt_speech_url": PLACE}])
def test_a_name_that_is_taken_is_refused_before_anything_is_made(job: dict[str, object]) -> None:
    stage = Stage(builtin=frozenset({"alloy"}))
    with pytest.raises(RequestError) as caught:
        stage.choose(**job, save_voice="alloy")
    assert caught.value.field == "save_voice"
    assert stage.asked == []


@pytest.mark.parametrize("token", [None, "zero_shot", "cross_lingual"])
def test_other_ways_take_a_saved_voice_without_a_transcript(token: str | None) -> None:
    assert Stage(TIMBRE).choose(voice="bob", task_token=token).speaking == TIMBRE


@pytest.mark.parametrize(
    ("more", "mismatch"),
    [
        ({}, "drop"),
        ({"transcript_mismatch": "refuse"}, "refuse"),
        ({"transcript_mismatch": "ignore"}, "ignore"),
        # Its words are needed.
        ({"task_token": "continue"}, "refuse"),
        ({"task_token": "continue", "transcript_mismatch": "ignore"}, "ignore"),
        # They are not used, but where the voice is saved with them.
        ({"task_token": "cross_lingual"}, "ignore"),
        ({"task_token": "cross_lingual", "save_voice": "bob"}, "drop"),
    ],
)
def test_what_becomes_of_a_wrong_transcript_is_the_callers_choice(
    more: dict[str, object], mismatch: str
) -> None:
    stage = Stage()
    stage.choose(prompt_speech_url=PLACE, prompt_text="Its words.", **more)
    assert stage.mismatches == [mismatch]
