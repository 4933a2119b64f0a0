"""Voices: heard once, kept, saved, and told apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from worker.errors import VoiceError
from worker.keys import Keys
from worker.speech.engine import Engine
from worker.speech.prompt import Voice
from worker.storage import LocalStorage
from worker.style import Style
from worker.voices import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)
Make = Callable[[Engine], Voices]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def voices(engine: Engine) -> Voices:
        storage = LocalStorage(tmp_path / "storage")
        return Voices(engine, storage, KEYS, tmp_path / "cache" / "tiny@1")

    return voices


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.wav"
    t = np.arange(24000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 150 * t * (1 + 0.1 * t)), 16000)
    return path


def test_a_reference_is_heard_as_the_engine_hears_it(
    make: Make, tiny_engine: Engine, reference: Path
) -> None:
    voice = make(tiny_engine).listen(reference, "Its words.")
    heard = tiny_engine.listen(reference)
    assert voice == Voice(heard.global_tokens, heard.semantic_tokens, "Its words.")


def test_the_engine_gets_the_samples_that_were_checked_and_not_the_strangers_file(
    make: Make, tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    make(tiny_engine).listen(path, None)
    ((samples, rate),) = heard
    assert rate == 22_050
    np.testing.assert_array_equal(samples, soundfile.read(path)[0][:, 0])


def test_a_reference_is_heard_once(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path
) -> None:
    voices = make(tiny_engine)
    voices.listen(reference, None)
    (cached,) = (tmp_path / "cache" / "tiny@1").iterdir()
    tokens = load_file(cached)
    tokens["global_tokens"] = torch.tensor([1, 2, 3, 4, 5], dtype=torch.int32)
    save_file(tokens, cached)
    copy = Path(shutil.copy(reference, tmp_path / "another name.wav"))
    assert voices.listen(copy, None).global_tokens == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_spoilt_cache_is_heard_again(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path, content: bytes | None
) -> None:
    voices = make(tiny_engine)
    voice = voices.listen(reference, None)
    (cached,) = (tmp_path / "cache" / "tiny@1").iterdir()
    if content is None:  # whole, but of another model
        save_file({"global_tokens": torch.ones(9), "semantic_tokens": torch.ones(2)}, cached)
    else:
        cached.write_bytes(content)
    assert voices.listen(reference, None) == voice
    assert load_file(cached)["global_tokens"].tolist() == list(voice.global_tokens)


def test_a_cache_that_cannot_be_written_costs_nothing(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert make(tiny_engine).listen(reference, None).global_tokens


@pytest.mark.parametrize(
    "voice",
    [
        Voice((3, 0, 15, 7, 7)),
        Voice((3, 0, 15, 7, 7), (1, 95, 0), "Words, 中文 and “quotes”."),
        Voice((3, 0, 15, 7, 7), style=Style("male", "low", "very_high", 412, 9)),
    ],
)
def test_a_saved_voice_comes_back_as_it_was(make: Make, tiny_engine: Engine, voice: Voice) -> None:
    voices = make(tiny_engine)
    voices.save("Anna-2", voice)
    assert voices.saved("Anna-2") == voice


def test_a_voice_that_was_never_saved_is_named(make: Make, tiny_engine: Engine) -> None:
    with pytest.raises(VoiceError, match="no saved voice 'nobody'") as caught:
        make(tiny_engine).saved("nobody")
    assert caught.value.field == "voice"


@pytest.mark.parametrize(
    "change",
    [
        {"global_tokens": [1, 2, 3, 4]},
        {"global_tokens": [1, 2, 3, 4, 99]},
        {"global_tokens": "all"},
        {"semantic_tokens": [96]},
        {"format": 2},
        {"more": 1},
    ],
)
def test_a_voice_of_another_make_is_refused(
    make: Make, tiny_engine: Engine, tmp_path: Path, change: dict[str, object]
) -> None:
    voices = make(tiny_engine)
    voices.save("old", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "old.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(VoiceError, match="save it again"):
        voices.saved("old")


def test_half_a_saved_voice_is_refused(make: Make, tiny_engine: Engine, tmp_path: Path) -> None:
    voices = make(tiny_engine)
    voices.save("cut", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "cut.json"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(VoiceError, match="save it again"):
        voices.saved("cut")
