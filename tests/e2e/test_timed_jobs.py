"""Jobs that ask for word timings and subtitles, through the handler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import ass
import pytest

from tests.conftest import DEMO
from tests.support.desk import Desk
from worker.speech.engine import Engine
from worker.timing.aligner import Aligner

TEXT = "The boy walked to the river. She opened the window and looked at the garden!"
CLONE = {"text": TEXT, "prompt_speech_url": "demo.wav", "temperature": 0}


def with_aligner(engine: Engine, folder: Path) -> Desk:
    desk = Desk(engine, folder)
    desk.components = replace(
        desk.components, aligner=Aligner.load({"en": DEMO / "aligner"}, "cpu")
    )
    return desk


@pytest.fixture
def demo(demo_engine: Engine, tmp_path: Path) -> Desk:
    """It speaks, and its aligner understands it."""
    return with_aligner(demo_engine, tmp_path)


@pytest.fixture
def babble(tiny_engine: Engine, tmp_path: Path) -> Desk:
    """Whatever it says, it is not the text."""
    return with_aligner(tiny_engine, tmp_path)


def check_words(answer: dict[str, Any], text: str = TEXT) -> None:
    words, segments = answer["word_timings"], answer["segments"]
    assert "".join(word["word"] for word in words) == "".join(text.split())
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    at = iter(words)
    for segment in segments:
        for _ in segment["text"].split():
            word = next(at)
            assert segment["start"] - 0.001 <= word["start"]
            assert word["end"] <= segment["end"] + 0.001


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"speed_shift": 0.6, "multi_sentence_gap": 2.0},
        {"speed_shift": 1.7, "pitch_shift": 3, "multi_sentence_gap": 0},
        {"output_format": "mp3"},
    ],
)
def test_words_survive_shifts_and_gaps(demo: Desk, more: dict[str, Any]) -> None:
    answer = demo.succeed({**CLONE, "enable_whisperx": True, "max_retries": 0, **more})
    check_words(answer)
    assert not any(word["estimated"] for word in answer["word_timings"])
    assert "subtitles_url" not in answer
    assert answer["metrics"]["seconds"]["timing"] > 0


@pytest.mark.parametrize("file_format", ["ass", "srt", "vtt"])
def test_subtitles_are_stored_beside_the_audio(demo: Desk, file_format: str) -> None:
    answer = demo.succeed(
        {
            **CLONE,
            "enable_subtitles": True,
            "subtitle_format": file_format,
            "subtitle_style": {"mode": "karaoke", "size": 30},
            "output_name": "talk",
        }
    )
    audio, subtitles = (
        Path(unquote(urlsplit(answer[f"{kind}_url"]).path)) for kind in ("audio", "subtitles")
    )
    assert (audio.name, subtitles.name) == ("talk_job-1.wav", f"talk_job-1.{file_format}")
    check_words(answer)
    text = subtitles.read_text(encoding="utf-8")
    assert "garden!" in text
    assert "subtitles" in answer["metrics"]["seconds"]
    if file_format == "ass":
        events = ass.parse_string(text).events
        first = answer["word_timings"][0]
        assert events[0].start.total_seconds() == pytest.approx(first["start"], abs=0.006)


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("The total comes to 1,234,567 today.", {"speaker_gender": "female"}),
        (
            "It was built in 1987 by a rich man.",
            {"speaker_gender": "male", "speed": "very_low"},
        ),
    ],
)
@pytest.mark.parametrize("normalize", ["off", "auto"])
def test_a_long_number_is_no_fault(
    demo: Desk, text: str, style: dict[str, Any], normalize: str
) -> None:
    asked = {"text": text, **style, "seed": 1, "enable_whisperx": True, "normalize": normalize}
    answer = demo.succeed(asked)
    assert answer["metrics"]["retries"] == 0
    assert "faults" not in answer["metrics"] or not answer["metrics"]["faults"]
    check_words(answer, text)
    assert [segment["text"] for segment in answer["segments"]] == [text]


def test_what_is_off_costs_and_tells_nothing(demo: Desk) -> None:
    answer = demo.succeed(CLONE)
    assert "word_timings" not in answer
    assert "timing" not in answer["metrics"]["seconds"]
    assert answer["metrics"]["retries"] == 0


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("more", [{}, {"task_token": "continue", "prompt_text": "What was said."}])
def test_what_was_not_said_is_spoken_again_a_bounded_number_of_times(
    babble: Desk, retries: int, more: dict[str, Any]
) -> None:
    # A lower limit could not hold the text, and no other take would be tried.
    asked = {**CLONE, "max_length": 160, "temperature": 1, "seed": 5, "enable_whisperx": True}
    first = babble.succeed({**asked, **more, "max_retries": retries}, "a")
    again = babble.succeed({**asked, **more, "max_retries": retries}, "b")
    metrics = first["metrics"]
    if retries < 2:
        assert metrics["retries"] == 2 * retries
    else:  # by chance one may come out well
        assert 2 < metrics["retries"] <= 2 * retries
    faulty = {fault.split(":")[0] for fault in metrics["faults"]}
    assert faulty <= {"sentence 1", "sentence 2"}
    assert faulty or retries
    assert first["word_timings"] == again["word_timings"]  # other seeds, but always the same ones
    check_words(first)


def test_without_an_aligner_the_job_is_told_so(demo: Desk) -> None:
    demo.components = replace(demo.components, aligner=None)
    error = demo.fail({**CLONE, "enable_subtitles": True})
    assert (error["code"], error["field"]) == ("not_available", "enable_subtitles")
    assert "no alignment model" in error["message"]
