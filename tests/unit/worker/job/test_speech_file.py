"""The file of a job: its format, rate, level and tags, as the job asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import av
import numpy as np
import pytest
import soundfile

from tests.support.loudness import bs1770, true_peak
from tests.support.small_components import RATE, TEXT, SmallParts, small_components
from tests.support.sounds import speech
from worker.api.request import parse_request
from worker.api.response import SpeechResponse, SpokenSegment
from worker.audio import waveform
from worker.audio.formats import ENDINGS, Format, content_type
from worker.audio.waveform import Audio
from worker.job import pipeline
from worker.job.context import Job
from worker.job.speech_file import MISSED

SECONDS = 1.8  # that TEXT takes
VOICE = speech("They bought a new car last year, and sold it.")


class Runner:
    def __init__(self, folder: Path) -> None:
        self.small: SmallParts = small_components(folder)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.told: list[SpokenSegment] = []

    def speak(self, *, streamed: bool = False, **asked: Any) -> SpeechResponse:
        announce = self.told.append if streamed else None
        job = Job("job-1", self.small.components, self.scratch, announce=announce)
        return pipeline.speak(parse_request({"text": TEXT, **asked}), job)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def voiced(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """One whose sentences are speech."""
    monkeypatch.setattr(waveform, "shift", lambda *_: Audio(VOICE, RATE))
    return runner


def file_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def decoded(path: Path, rate: int) -> np.ndarray:
    """Samples [n] at the rate, by ffmpeg; of pcm, the numbers themselves."""
    if path.suffix == ".ogg":  # PyAV heeds neither end of Vorbis
        return soundfile.read(path, dtype="float32")[0]
    if path.suffix == ".pcm":
        return np.fromfile(path, "<i2").astype(np.float32) / 32768
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(str(path)) as container:
        frames = [*container.decode(audio=0), None]
        parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", get_args(Format))
@pytest.mark.parametrize("rate", [None, 8_000, 24_000, 48_000])
def test_each_format_at_each_rate_has_the_speech(
    runner: Runner, kind: Format, rate: int | None
) -> None:
    answer = runner.speak(output_format=kind, sample_rate=rate, output_name="hi")
    heard = rate or RATE
    assert (answer.sample_rate, answer.duration) == (heard, SECONDS)
    assert [(s.start, s.end) for s in answer.segments] == [(0, 0.2), (0.5, 0.9), (1.2, 1.8)]
    key = f"output/hi_job-1.{ENDINGS[kind]}"
    assert runner.small.storage.put_keys == [(key, content_type(kind, heard))]
    found = decoded(file_of(answer.audio_url), heard)
    assert 0 <= len(found) - SECONDS * heard <= (1_024 if ENDINGS[kind] == "m4a" else 2)
    loud = np.abs(found[: round(SECONDS * heard)])
    for start, end, silent in ((0.05, 0.15, False), (0.25, 0.45, True), (1.3, 1.7, False)):
        part = loud[round(start * heard) : round(end * heard)]
        assert (part.max() < 0.02) if silent else (part.max() > 0.4)


def test_words_keep_their_times_at_another_rate(runner: Runner) -> None:
    slow = runner.speak(sample_rate=8_000)
    assert slow.segments == runner.speak().segments


@pytest.mark.parametrize("kind", ["wav", "mp3", "opus"])
def test_speech_has_its_loudness_and_the_answer_says_it(voiced: Runner, kind: str) -> None:
    answer = voiced.speak(output_format=kind, loudness=-19, sample_rate=24_000)
    found = decoded(file_of(answer.audio_url), 24_000)
    assert bs1770(found, 24_000) == pytest.approx(-19, abs=0.5)
    assert answer.loudness == pytest.approx(-19, abs=0.2)
    assert answer.warnings == ()
    assert true_peak(found, 24_000) < -1 + (0.1 if kind == "wav" else 1)


def test_where_the_limit_wins_the_answer_says_by_how_much(voiced: Runner) -> None:
    answer = voiced.speak(loudness=-8)
    found = bs1770(decoded(file_of(answer.audio_url), RATE), RATE)
    assert found < -8 - MISSED
    (warning,) = answer.warnings
    assert warning.startswith(f"loudness: the speech has {answer.loudness:.1f} LUFS, ")
    said = float(warning.split(" LUFS, ")[1].split(" LU less than the -8 ")[0])
    assert said == pytest.approx(-8 - found, abs=0.3)


def test_speech_that_is_too_quiet_stays_as_it_is(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveform, "shift", lambda *_: Audio(VOICE * np.float32(1e-3), RATE))
    answer = runner.speak(loudness=-16)
    assert "too quiet to be measured" in answer.warnings[0]
    assert answer.loudness is None
    assert np.abs(decoded(file_of(answer.audio_url), RATE)).max() < 2e-3


def test_a_streamed_sentence_has_the_loudness_by_itself(voiced: Runner) -> None:
    answer = voiced.speak(streamed=True, loudness=-19, sample_rate=22_050, output_format="flac")
    assert len(voiced.told) == 3
    for segment in voiced.told:
        found = decoded(file_of(segment.audio_url), 22_050)
        assert len(found) == pytest.approx(len(VOICE) * 22_050 / RATE, abs=1)
        assert bs1770(found, 22_050) == pytest.approx(-19, abs=0.5)
    assert bs1770(decoded(file_of(answer.audio_url), 22_050), 22_050) == pytest.approx(-19, abs=0.5)


def test_a_streamed_sentence_of_raw_samples_says_its_rate(runner: Runner) -> None:
    runner.speak(streamed=True, output_format="pcm", sample_rate=11_025)
    kinds = {kind for _, kind in runner.small.storage.put_keys}
    assert kinds == {"audio/pcm; rate=11025"}
    assert runner.small.storage.put_keys[0][0].endswith(".0000.pcm")


def test_a_silent_streamed_sentence_has_a_file_all_the_same(runner: Runner) -> None:
    runner.small.engine.silent = frozenset({"One."})
    runner.speak(streamed=True, loudness=-16)
    assert len(decoded(file_of(runner.told[0].audio_url), RATE)) == RATE // 20


@pytest.mark.parametrize(("limit", "highest"), [(None, -1), (-6, -6)])
def test_no_peak_passes_the_limit(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, limit: float | None, highest: float
) -> None:
    monkeypatch.setattr(waveform, "shift", lambda *_: Audio(2 * VOICE, RATE))
    answer = runner.speak(streamed=True, true_peak=limit)
    for url in (answer.audio_url, *(segment.audio_url for segment in runner.told)):
        found = decoded(file_of(url), RATE)
        assert true_peak(found, RATE) == pytest.approx(highest, abs=0.05)


def test_a_peak_is_measured_at_the_rate_that_leaves(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lower rate leaves out may have kept a peak down."""
    time = np.arange(RATE) / RATE
    square = np.sign(np.sin(2 * np.pi * 1_500 * time + 0.1)).astype(np.float32)
    monkeypatch.setattr(waveform, "shift", lambda *_: Audio(square, RATE))
    answer = runner.speak(sample_rate=8_000)
    assert true_peak(decoded(file_of(answer.audio_url), 8_000), 8_000) < -1 + 0.1


@pytest.mark.parametrize("kind", [kind for kind in get_args(Format) if kind != "pcm"])
def test_the_file_says_what_it_is(runner: Runner, kind: Format) -> None:
    tags = {"title": "The fox", "album": "今天", "track": 7}
    answer = runner.speak(output_format=kind, tags=tags, voice="nova")
    with av.open(str(file_of(answer.audio_url))) as container:
        found = {**container.streams.audio[0].metadata, **container.metadata}
    told = {name.lower(): words for name, words in found.items()}
    assert (told["title"], told["album"], told["track"]) == ("The fox", "今天", "7")
    assert told["artist"] == "nova"
    assert told["comment"].startswith("Synthetic speech, made by AI (")


def test_a_job_that_asks_for_no_tags_is_marked_too(runner: Runner) -> None:
    answer = runner.speak()
    with soundfile.SoundFile(file_of(answer.audio_url)) as file:
        assert file.comment.startswith("Synthetic speech, made by AI (")
        assert file.title == ""


def test_the_same_job_gives_the_same_bytes(runner: Runner) -> None:
    asked = {"output_format": "opus", "sample_rate": 48_000, "loudness": -16, "seed": 1}
    first = file_of(runner.speak(**asked).audio_url).read_bytes()
    assert file_of(runner.speak(**asked).audio_url).read_bytes() == first
