"""Transcripts held against their recordings: asked once, then known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from worker.audio.waveform import Audio
from worker.timing.aligner import Aligner
from worker.timing.transcript_fit import Fit
from worker.voices import transcripts
from worker.voices.transcripts import Transcripts

SPEECH = Audio(np.zeros(32_000, np.float32), 16_000)
ALIGNER = cast("Aligner", object())


@dataclass
class Found:
    """In the place of the alignment: says what a test wants, and counts how often it is asked."""

    fit: Fit | None = field(default_factory=lambda: Fit("it is another text", 0.5, 0.0, 0.0))
    asked: list[tuple[int, str]] = field(default_factory=list)

    def __call__(self, _aligner: object, samples: np.ndarray, transcript: str) -> Fit | None:
        self.asked.append((len(samples), transcript))
        return self.fit


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    found = Found()
    monkeypatch.setattr(transcripts, "fit_of", found)
    return found


def test_without_an_aligner_nothing_is_said(found: Found, tmp_path: Path) -> None:
    held = Transcripts(None, tmp_path)
    assert not held.checks
    assert held.misfit(SPEECH, "ab" * 32, "Its words.") is None
    assert found.asked == []


@pytest.mark.parametrize("misfit", ["it is another text", None])
def test_it_is_asked_once_by_all_workers(found: Found, tmp_path: Path, misfit: str | None) -> None:
    found.fit = Fit(misfit, 0.0, 0.0, 1.0)
    held = Transcripts(ALIGNER, tmp_path)
    for _ in range(2):
        assert held.misfit(SPEECH, "ab" * 32, "Its words.") == misfit
    assert Transcripts(ALIGNER, tmp_path).misfit(SPEECH, "ab" * 32, "Its words.") == misfit
    assert len(found.asked) == 1


def test_each_recording_and_each_transcript_is_asked_for_itself(
    found: Found, tmp_path: Path
) -> None:
    held = Transcripts(ALIGNER, tmp_path)
    for recording, words in (("a", "One."), ("b", "One."), ("a", "Two."), ("a", "One.")):
        held.misfit(SPEECH, recording, words)
    assert [words for _, words in found.asked] == ["One.", "One.", "Two."]


def test_what_cannot_be_told_is_not_kept(found: Found, tmp_path: Path) -> None:
    found.fit = None
    held = Transcripts(ALIGNER, tmp_path)
    for _ in range(2):
        assert held.misfit(SPEECH, "a", "One.") is None
    assert len(found.asked) == 2
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_aligner_hears_16_khz(found: Found, tmp_path: Path, rate: int) -> None:
    Transcripts(ALIGNER, tmp_path).misfit(Audio(np.zeros(rate, np.float32), rate), "a", "One.")
    assert found.asked == [(16_000, "One.")]


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", '{"key": 1}', '{"misfit": "no"}', '{"key":' + "[" * 400]
)
def test_whatever_else_lies_there_counts_as_nothing(
    found: Found, tmp_path: Path, content: str
) -> None:
    held = Transcripts(ALIGNER, tmp_path)
    held.misfit(SPEECH, "a", "One.")
    (entry,) = tmp_path.rglob("*.json")
    key = json.loads(entry.read_text())["key"]
    for damaged in (content, json.dumps({"key": key, "misfit": 3}), json.dumps({"key": "x"})):
        entry.write_text(damaged)
        assert Transcripts(ALIGNER, tmp_path).misfit(SPEECH, "a", "One.") == found.fit.misfit
        assert json.loads(entry.read_text())["misfit"] == found.fit.misfit


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    found: Found, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    held = Transcripts(ALIGNER, tmp_path / "file")
    assert held.misfit(SPEECH, "a", "One.") == "it is another text"
