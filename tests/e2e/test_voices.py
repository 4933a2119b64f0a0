"""Voices by name, as clients use them: added from a recording, built in, spoken with, removed."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from scripts.demo_voice import clip
from tests.conftest import DEMO_VOICE
from tests.support.desk import Desk
from worker.errors import VoiceError
from worker.speech.engine import Engine
from worker.voices.builtin import BUILTIN

CONSENT = "It is made of sounds that a program made; nobody's voice is cloned."
TEXT = "Good morning. The train leaves at noon."


@pytest.fixture
def desk(demo_engine: Engine, tmp_path: Path) -> Desk:
    return Desk(demo_engine, tmp_path)


def audio(answer: dict[str, Any]) -> bytes:
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(answer["audio_url"]).path)).read_bytes()


def pitch(answer: dict[str, Any]) -> float:
    """The median fundamental of the voiced parts, in hertz, by autocorrelation."""
    path = Path(urllib.parse.unquote(urllib.parse.urlsplit(answer["audio_url"]).path))
    samples, rate = soundfile.read(path)
    frames = samples[: len(samples) // 640 * 640].reshape(-1, 640)  # 40 ms
    loud = frames[(power := (frames**2).mean(1)) > 0.25 * power.max()]
    shortest, longest = rate // 500, rate // 70
    found = []
    for frame in loud:
        same = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        found.append(rate / (shortest + np.argmax(same[shortest:longest])))
    return float(np.median(found))


def test_a_voice_is_added_listed_spoken_with_and_removed(desk: Desk) -> None:
    added = desk.voices.add("mine", DEMO_VOICE, clip.TEXT, CONSENT)
    assert added.consent == CONSENT
    assert [voice.id for voice in desk.voices.listed()] == [*sorted(BUILTIN), "mine"]
    asked = {"text": TEXT, "voice": "mine", "seed": 7}
    answer = desk.succeed(asked, "with-its-words")
    assert answer["voice"] == {"source": "saved", "name": "mine"}
    assert answer["duration"] > 1
    again = desk.succeed(asked | {"task_token": "continue"}, "continued")
    assert again["duration"] > 1
    desk.voices.remove("mine")
    assert desk.fail(asked)["code"] == "invalid_voice"
    assert [voice.id for voice in desk.voices.listed()] == sorted(BUILTIN)
    with pytest.raises(VoiceError):
        desk.voices.remove("mine")


def test_a_built_in_voice_is_one_voice_on_every_worker_and_not_anothers(
    desk: Desk, demo_engine: Engine, tmp_path: Path
) -> None:
    other = Desk(demo_engine, tmp_path / "another volume")
    asked = {"text": TEXT, "seed": 7}
    answers = {
        name: desk.succeed(asked | {"voice": name}, name) for name in ("shimmer", "onyx", "nova")
    }
    for name, answer in answers.items():
        assert answer["voice"] == {"source": "builtin", "name": name}
        assert audio(other.succeed(asked | {"voice": name}, name)) == audio(answer)
    assert len({audio(answer) for answer in answers.values()}) == 3
    assert pitch(answers["shimmer"]) > 1.3 * pitch(answers["onyx"])


def test_a_built_in_voice_speaks_another_language_and_continues_from_nothing(desk: Desk) -> None:
    asked = {"text": TEXT, "voice": "nova"}
    assert desk.succeed(asked | {"task_token": "cross_lingual"})["duration"] > 1
    error = desk.fail(asked | {"task_token": "continue"})
    assert (error["code"], error["field"]) == ("invalid_voice", "voice")
    error = desk.fail({"text": TEXT, "save_voice": "nova"})
    assert (error["code"], error["field"]) == ("invalid_request", "save_voice")
