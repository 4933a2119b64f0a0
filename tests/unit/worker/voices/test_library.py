"""Voices in reference audio: checked, heard by the engine, and nothing left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.heard_voices import KEYS, Heard, sound
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError, VoiceError
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.storage.local import LocalStorage
from worker.temp_folders import temp_prefix
from worker.voices.library import Voices


@pytest.fixture
def voices(tiny_engine: Engine, tmp_path: Path) -> Voices:
    return Voices(tiny_engine, LocalStorage(tmp_path / "storage"), KEYS, tmp_path / "tiny@1")


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.wav"
    t = np.arange(24000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 150 * t * (1 + 0.1 * t)), 16000)
    return path


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


def test_a_reference_is_heard_as_the_engine_hears_it(
    voices: Voices, tiny_engine: Engine, reference: Path
) -> None:
    voice = voices.listen(reference, "Its words.")
    heard = tiny_engine.listen(reference)
    assert voice == Voice(heard.global_tokens, heard.semantic_tokens, "Its words.")


def test_the_engine_gets_the_samples_that_were_checked_and_not_the_strangers_file(
    voices: Voices, tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.flac"
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, (30_000, 2))
    soundfile.write(path, noise, 22_050, subtype="PCM_24")
    heard: list[tuple[np.ndarray, int]] = []
    listen = tiny_engine.listen

    def look(file: Path, *rest: object, **named: object) -> Voice:
        assert file != path
        heard.append(soundfile.read(file))
        return listen(file, *rest, **named)

    monkeypatch.setattr(tiny_engine, "listen", look)
    voices.listen(path, None)
    ((samples, rate),) = heard
    assert rate == 22_050
    np.testing.assert_array_equal(samples, soundfile.read(path)[0][:, 0])


@pytest.mark.parametrize(("seconds", "loudness"), [(0.5, 0.3), (2, 0), (61, 0.3)])
def test_what_is_no_reference_is_refused_and_not_listened_to(
    heard: Heard, tmp_path: Path, seconds: float, loudness: float
) -> None:
    with pytest.raises(VoiceError) as caught:
        heard.voices.listen(sound(tmp_path / "a.wav", seconds, loudness), None)
    assert caught.value.field == "prompt_speech_url"
    assert heard.ear.heard == []
    assert heard.cached() == []


def test_a_file_that_is_no_audio_is_refused_with_its_field(heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(VoiceError) as caught:
        heard.voices.listen(tmp_path / "a.wav", None)
    assert caught.value.field == "prompt_speech_url"


def test_the_engine_is_told_of_the_jobs_cancellation(heard: Heard, reference: Path) -> None:
    cancellation = Cancellation()
    heard.voices.listen(reference, None, cancellation)
    assert heard.ear.heard[0][1] is cancellation


@pytest.mark.parametrize("failure", [None, JobCancelledError("the job was cancelled")])
def test_the_samples_are_not_left_behind(
    heard: Heard,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | None,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    heard.ear.failure = failure
    if failure is None:
        heard.voices.listen(reference, None)
    else:
        with pytest.raises(JobCancelledError):
            heard.voices.listen(reference, None)
        assert heard.cached() == []
    assert list(scratch.iterdir()) == []
    place = heard.ear.heard[0][0].parent
    assert place.parent == scratch
    assert place.name.startswith(temp_prefix())  # so that it is swept after a kill
