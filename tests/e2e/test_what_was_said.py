"""Nothing said is no success, and a transcript that is not the recording's is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from scripts.demo_voice import clip
from tests.conftest import DEMO
from tests.support.desk import KEYS, Desk
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.timing.aligner import Aligner
from worker.voices.library import Voices

TEXT = "Please turn off the light and close the door."
CLONE = {"text": TEXT, "prompt_speech_url": "demo.wav", "seed": 1}
OTHER = "Our train was late again, so we missed most of the meeting in the morning."
LONG = (
    "The farmer sold the heavy box at the market.",
    "Nobody else was waiting at the old station.",
    "It was late in the afternoon, and the air was cool.",
    "She opened the window and looked out at the rain.",
    "He sat down on a bench and waited for his brother.",
)


@pytest.fixture
def desk(demo_engine: Engine, tmp_path: Path) -> Desk:
    """A desk whose aligner understands what its model says."""
    found = Desk(demo_engine, tmp_path)
    aligner = Aligner.load({"en": DEMO / "aligner"}, "cpu")
    found.voices = Voices(demo_engine, found.storage, KEYS, tmp_path / "heard", aligner=aligner)
    found.components = replace(found.components, voices=found.voices, aligner=aligner)
    return found


@pytest.mark.parametrize("words", [clip.TEXT, clip.TEXT.upper(), f"[laughs] {clip.TEXT}"])
def test_a_right_transcript_is_no_news(desk: Desk, words: str) -> None:
    answer = desk.succeed({**CLONE, "prompt_text": words})
    assert answer["warnings"] == []
    assert answer["metrics"]["faults"] == []


@pytest.mark.parametrize("words", [OTHER, f"{clip.TEXT} {OTHER}"])
def test_a_wrong_one_is_left_out_and_told_or_refused(desk: Desk, words: str) -> None:
    asked: dict[str, Any] = {**CLONE, "prompt_text": words}
    without = desk.succeed(CLONE, "without")
    answer = desk.succeed({**asked, "save_voice": "ann"}, "left-out")
    assert answer["duration"] == without["duration"]
    (warning,) = answer["warnings"]
    assert warning.startswith("prompt_text was left out, for it is not what the recording says")
    assert desk.voices.saved("ann").transcript is None
    for more in ({"transcript_mismatch": "refuse"}, {"task_token": "continue"}):
        error = desk.fail({**asked, **more})
        assert (error["code"], error["field"]) == ("invalid_voice", "prompt_text")
    believed = desk.answer({**asked, "transcript_mismatch": "ignore"}, "believed")
    assert believed.get("warnings", []) == [] or "hardly" in believed["warnings"][0]


def test_a_job_in_which_hardly_anything_is_said_fails_and_says_what_helps(
    desk: Desk, tmp_path: Path
) -> None:
    """After a transcript that is too long for it the embedded model ends at once, always."""
    engine, voice = (
        desk.components.engine,
        desk.voices.listen(tmp_path / "storage/voices/demo.wav", None),
    )
    spoken = [one.samples for one in engine.speak(LONG, voice, Sampling(seed=7))]
    soundfile.write(tmp_path / "long.wav", np.concatenate(spoken), engine.sample_rate)
    desk.storage.put(tmp_path / "long.wav", "voices/long.wav", "audio/wav")
    asked = {"text": TEXT, "prompt_speech_url": "long.wav", "seed": 0}
    with_words = {**asked, "prompt_text": " ".join(LONG)}
    error = desk.fail(with_words)
    assert error["code"] == "synthesis_failed"
    assert "hardly anything of the text" in error["message"]
    assert "task_token 'cross_lingual'" in error["message"]
    for more in ({**asked}, {**with_words, "task_token": "cross_lingual"}):
        answer = desk.succeed(more, str(len(more)))
        assert answer["duration"] > 1.5
        assert answer["metrics"]["faults"] == []
