"""Jobs through the handler, on the tiny random model: every mode, every answer, every trace."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tests.conftest import DEMO_VOICE
from tests.support.desk import Desk
from worker.cancellation import Cancellation
from worker.errors import DeviceError, StorageError
from worker.serve.runpod_handler import make_handler
from worker.speech.batch.sampling import Sampling
from worker.speech.codec.speech_stream import SpeechStream
from worker.speech.engine import Engine

TEXT = "One short sentence. And another one!"
CLONE = {"text": TEXT, "prompt_speech_url": "demo.wav", "max_length": 64}


def samples(answer: dict[str, Any]) -> np.ndarray:
    data, rate = soundfile.read(unquote(urlsplit(answer["audio_url"]).path))
    assert rate == answer["sample_rate"] == 16000
    return np.asarray(data)


@pytest.fixture
def desk(tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return Desk(tiny_engine, tmp_path)


@pytest.fixture(autouse=True)
def _leaves_nothing(desk: Desk, tmp_path: Path) -> Any:
    yield
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    "asked",
    [
        {"text": TEXT},
        {"text": TEXT, "gender": "male", "pitch": "very_low", "speed": "high"},
        {"text": TEXT, "pitch_value": 200, "speed_value": 7},
        CLONE,
        {**CLONE, "prompt_text": "What was said."},
        {**CLONE, "prompt_text": "What was said.", "task_token": "continue"},
        {**CLONE, "prompt_text": "What was said.", "task_token": "cross_lingual"},
        {"text": "你好。今天天气很好！", "prompt_speech_path": "voices/demo.wav"},
    ],
)
def test_every_mode_speaks(desk: Desk, asked: dict[str, Any]) -> None:
    answer = desk.succeed({"max_length": 64, "seed": 3, **asked})
    assert answer["status"] == "success"
    assert len(samples(answer)) == round(answer["duration"] * 16000) > 0
    said = "".join(segment["text"] for segment in answer["segments"])
    assert said.replace(" ", "") == asked["text"].replace(" ", "")
    first, last = answer["segments"][0], answer["segments"][-1]
    assert first["start"] == 0
    assert last["end"] == pytest.approx(answer["duration"], abs=0.002)
    metrics = answer["metrics"]
    assert metrics["sentences"] == len(answer["segments"])
    assert metrics["tokens"] > 0
    stages = {"queue", "text", "voice", "speech", "audio", "storage", "codec"}
    assert {*stages, "first_audio", "overhead", "total"} == set(metrics["seconds"])


def test_a_seed_repeats_the_bytes(desk: Desk) -> None:
    asked = {**CLONE, "seed": 12}
    first = samples(desk.succeed(asked, "a"))
    assert np.array_equal(samples(desk.succeed(asked, "b")), first)
    other = samples(desk.succeed({**CLONE, "seed": 13}, "c"))
    assert not np.array_equal(other[: len(first)], first[: len(other)])


def test_a_drawn_seed_is_told_and_repeats(desk: Desk) -> None:
    first = desk.succeed(CLONE, "a")
    again = desk.succeed({**CLONE, "seed": first["seed"]}, "b")
    assert np.array_equal(samples(first), samples(again))


def test_gaps_lie_between_the_sentences(desk: Desk) -> None:
    for gap in (0, 1.5):
        one, two = desk.succeed({**CLONE, "multi_sentence_gap": gap})["segments"]
        assert two["start"] - one["end"] == pytest.approx(gap, abs=0.002)


def test_tempo_changes_the_length(desk: Desk) -> None:
    asked = {**CLONE, "seed": 4, "multi_sentence_gap": 0}
    normal = desk.succeed(asked, "a")["duration"]
    fast = desk.succeed({**asked, "speed_shift": 2.0, "pitch_shift": -3}, "b")["duration"]
    assert fast == pytest.approx(normal / 2, rel=0.01)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus"])
def test_formats(desk: Desk, kind: str) -> None:
    answer = desk.succeed({**CLONE, "output_format": kind, "output_name": "take.2"})
    assert answer["audio_url"].endswith(f"/output/take.2_job-1.{kind}")
    assert len(samples(answer)) / 16000 == pytest.approx(answer["duration"], abs=0.1)


def test_a_designed_voice_is_saved_and_speaks_again(desk: Desk) -> None:
    style = {"gender": "male", "pitch_value": 120, "max_length": 64}
    made = desk.succeed({"text": TEXT, **style, "save_voice": "bob", "seed": 1})
    assert made["voice"] == {"source": "style", "name": "bob"}
    kept = desk.voices.saved("bob")
    assert kept.style is not None
    assert kept.style.pitch_value == 120
    again = desk.succeed({"text": "More.", "voice": "bob", "max_length": 64})
    assert again["voice"] == {"source": "saved", "name": "bob"}


def test_a_saved_reference_goes_on_without_its_audio(desk: Desk) -> None:
    desk.succeed({**CLONE, "prompt_text": "What was said.", "save_voice": "ann"})
    (desk.storage._folder / "voices" / "demo.wav").unlink()
    desk.succeed({"text": TEXT, "voice": "ann", "task_token": "continue", "max_length": 64})


def test_a_voice_saved_by_timbre_only_keeps_its_transcript(desk: Desk) -> None:
    asked = {**CLONE, "prompt_text": "Said.", "task_token": "cross_lingual", "save_voice": "eve"}
    desk.succeed(asked)
    assert desk.voices.saved("eve").transcript == "Said."


def test_going_on_needs_a_transcript(desk: Desk) -> None:
    desk.succeed({**CLONE, "save_voice": "mute"})
    error = desk.fail({"text": TEXT, "voice": "mute", "task_token": "continue"})
    assert error["code"] == "invalid_voice"
    assert error["field"] == "voice"


def test_a_sentence_cut_short_is_counted(desk: Desk) -> None:
    answer = desk.succeed({**CLONE, "max_length": 64, "temperature": 0})
    cut = answer["metrics"]["truncated_sentences"]
    assert cut == sum(
        not u.complete
        for u in desk.components.engine.speak(
            ["One short sentence.", "And another one!"],
            desk.components.engine.listen(DEMO_VOICE),
            Sampling(temperature=0, max_tokens=64),
        )
    )


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        (None, "invalid_request", "input"),
        ({}, "invalid_request", "text"),
        ({"text": ""}, "invalid_request", "text"),
        ({**CLONE, "speed_shift": 9}, "invalid_request", "speed_shift"),
        ({**CLONE, "sped": 1}, "invalid_request", "sped"),
        ({**CLONE, "enable_whisperx": True}, "not_available", "enable_whisperx"),
        ({"text": TEXT, "prompt_speech_url": "nobody.wav"}, "invalid_voice", "prompt_speech_url"),
        ({"text": TEXT, "prompt_speech_url": "s3://other/x.wav"}, "invalid_request",
         "prompt_speech_url"),
        ({"text": TEXT, "voice": "nobody"}, "invalid_voice", "voice"),
        ({"text": TEXT, "prompt_speech_url": "http://127.0.0.1/x.wav"}, "invalid_request",
         "prompt_speech_url"),
    ],
)  # fmt: skip
def test_errors_have_code_message_and_field(desk: Desk, asked: Any, code: str, field: str) -> None:
    error = desk.fail(asked)
    assert error["code"] == code
    assert error["field"] == field
    assert len(error["message"]) > 10


@pytest.mark.parametrize("content", [b"", b"not audio at all" * 100, b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_reference_that_is_no_audio(desk: Desk, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    desk.storage.put(tmp_path / "bad.wav", "voices/bad.wav", "audio/wav")
    error = desk.fail({"text": TEXT, "prompt_speech_url": "bad.wav"})
    assert (error["code"], error["field"]) == ("invalid_voice", "prompt_speech_url")


def test_an_unknown_failure_is_answered_and_keeps_its_secrets(desk: Desk) -> None:
    def explode(_url: str, _folder: Path, _cancellation: Cancellation) -> Path:
        raise ValueError("secret-of-the-house")

    desk.components = replace(desk.components, fetch_reference=explode)
    error = desk.fail(CLONE)
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert "job-1" in error["message"]


def test_nothing_but_silence_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(_stream: SpeechStream, codes: Sequence[int], *, last: bool) -> NDArray[np.float32]:
        return np.zeros(320 * len(codes), np.float32)

    monkeypatch.setattr(SpeechStream, "feed", feed)
    assert desk.fail(CLONE)["code"] == "synthesis_failed"
    assert not desk.storage.exists("output/speech_job-1.wav")


def test_jobs_at_once_do_not_mix(desk: Desk) -> None:
    asked = [{**CLONE, "seed": seed} for seed in range(4)]
    alone = [samples(desk.succeed(a, f"alone-{i}")) for i, a in enumerate(asked)]
    handle = make_handler(desk.components)

    async def together() -> list[dict[str, Any]]:
        jobs = ({"id": f"at-once-{i}", "input": a} for i, a in enumerate(asked))
        return list(await asyncio.gather(*(handle(job) for job in jobs)))

    for answer, expected in zip(asyncio.run(together()), alone, strict=True):
        assert np.array_equal(samples(answer), expected)


def test_one_voice_for_all_sentences(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In controlled mode, the first sentence's global tokens are those of all the others."""
    codec = desk.components.engine._codec
    stream, voices = codec.stream, []
    monkeypatch.setattr(
        codec, "stream", lambda v, eager: voices.append(v) or stream(v, eager=eager)
    )
    desk.succeed({"text": TEXT + " A third. And a fourth one.", "max_length": 64, "seed": 2})
    assert len(voices) >= 3
    assert len(set(voices)) == 1


def test_a_broken_device_asks_for_a_fresh_worker(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DeviceError("the GPU's context is broken; the worker starts anew")

    monkeypatch.setattr(desk.components.engine, "speak", broken)
    answer = desk.answer(CLONE)
    assert answer["refresh_worker"] is True
    assert json.loads(answer["error"])["code"] == "device_failed"


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_a_short_memory_anywhere_is_the_jobs_failure_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def short(*_: object, **__: object) -> None:
        raise kind

    with monkeypatch.context() as patched:
        patched.setattr("worker.audio.waveform.trim", short)
        answer = desk.answer(CLONE)
    assert set(answer) == {"error"}
    assert json.loads(answer["error"])["code"] == "out_of_memory"
    desk.succeed(CLONE)


def test_a_sentence_that_cannot_be_stored_ends_a_streamed_job(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_named: object) -> None:
        raise StorageError("the bucket is full")

    monkeypatch.setattr(desk.storage, "put", refuse)
    assert desk.fail({**CLONE, "stream": True})["code"] == "storage_failed"
    assert not list(Path(tempfile.gettempdir()).glob(f"spark-tts-{os.getpid()}-*"))
