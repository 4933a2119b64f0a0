"""What is loaded once: from the right folders, and refused in words where it is not there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_components import ToneEngine
from volume.layout import pinned_wheel
from worker import components as module
from worker.cancellation import Cancellation
from worker.components import Components
from worker.errors import SetupError
from worker.settings import Settings
from worker.speech.device import Lane
from worker.speech.engine import Engine
from worker.storage.local import LocalStorage


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "SparkTTS-serverless" / "models" / "mine@1").mkdir(parents=True)
    return tmp_path


def settings(volume: Path, **more: Any) -> Settings:
    given = {"runpod_volume": volume, "spark_model": "mine@1", "s3_bucket_name": None, **more}
    return Settings(**given)


def load(volume: Path, engine: Any = None, **more: Any) -> Components:
    return Components.load(settings(volume, **more), lambda: engine or ToneEngine())


def test_all_is_of_the_settings(volume: Path) -> None:
    engine = ToneEngine()
    components = load(
        volume, engine, s3_url_expiry=99, s3_voices_prefix="v/", s3_output_prefix="o/"
    )
    assert components.engine is engine
    assert components.url_expiry == 99
    assert (components.keys.voices, components.keys.output) == ("v/", "o/")
    assert components.aligner is None
    assert isinstance(components.storage, LocalStorage)
    home = volume / "SparkTTS-serverless"
    assert components.storage._folder == home / "local"
    # A model's cache is its own: another's tokens are other sounds.
    assert components.voices._cache.folder == home / "voices" / "mine@1"


def test_each_revision_of_a_model_has_a_cache_of_its_own(volume: Path) -> None:
    """SPARK_MODEL may leave the revision out."""
    components = load(volume, spark_model="mine")
    assert components.voices._cache.folder == volume / "SparkTTS-serverless" / "voices" / "mine@1"


def test_the_names_of_built_in_voices_are_the_settings(volume: Path) -> None:
    voices = load(volume, voice_names='{"nova": null, "guide": {"pitch": "high"}}').voices
    assert not voices.is_builtin("nova")
    assert voices.is_builtin("guide")
    assert voices.is_builtin("alloy")


def test_names_that_are_none_stop_the_worker_before_anything_is_loaded(volume: Path) -> None:
    def loading() -> Engine:
        pytest.fail("it is loaded")

    with pytest.raises(SetupError, match=r"VOICE_NAMES: 'alloy'.*pitch"):
        Components.load(settings(volume, voice_names='{"alloy": {"pitch": "up"}}'), loading)


def test_no_built_in_voice_is_made_at_start(volume: Path) -> None:
    engine = ToneEngine()
    load(volume, engine)
    assert engine.designed == []


def test_a_reference_of_the_storage_is_fetched_into_the_jobs_folder(
    volume: Path, tmp_path: Path
) -> None:
    components = load(volume, local_storage_dir=tmp_path / "bucket")
    components.storage.write_bytes("voices/ann.wav", b"sound", "audio/wav")
    (tmp_path / "job").mkdir()
    found = components.fetch_reference("ann.wav", tmp_path / "job", Cancellation())
    assert found.parent == tmp_path / "job"
    assert found.read_bytes() == b"sound"


def test_a_model_that_is_not_there_is_a_setup_error_before_anything_is_loaded(
    volume: Path,
) -> None:
    def loading() -> Engine:
        pytest.fail("it is loaded")

    with pytest.raises(SetupError, match="volume install --model other"):
        Components.load(settings(volume, spark_model="other"), loading)


def test_the_engine_is_loaded_here_where_no_other_thread_does(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def load_engine(*given: Any, look_ahead: int) -> Any:
        seen.append((*given, look_ahead))
        return ToneEngine()

    monkeypatch.setattr(module.Engine, "load", load_engine)
    monkeypatch.setattr(module, "check_hardware", seen.append)
    Components.load(settings(volume, spark_dtype="float32", stream_look_ahead=9))
    model = volume / "SparkTTS-serverless" / "models" / "mine@1"
    assert seen == [pinned_wheel("flash-attn"), (model, "float32", 9)]


def test_hardware_that_cannot_be_used_is_told_before_the_engine_is_loaded(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_wheel: str | None) -> None:
        raise SetupError("the GPU is too old")

    monkeypatch.setattr(module.Engine, "load", lambda *_given: pytest.fail("it is loaded"))
    monkeypatch.setattr(module, "check_hardware", refuse)
    with pytest.raises(SetupError, match="too old"):
        Components.load(settings(volume))


def test_the_aligner_is_of_the_languages_that_are_installed(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner"
    own.mkdir()
    monkeypatch.setattr(module.Aligner, "load", lambda *given, **named: (given, named))
    expected = (({"en": own},), {"open_lane": Lane})
    assert load(volume, whisperx_languages="en").aligner == expected
    assert load(volume, whisperx_languages="zh").aligner is None


def test_an_aligner_that_cannot_be_loaded_stops_the_worker(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object, **_named: object) -> None:
        raise SetupError("the aligner is damaged")

    (volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner").mkdir()
    monkeypatch.setattr(module.Aligner, "load", fail)
    with pytest.raises(SetupError, match="damaged"):
        load(volume)


@pytest.mark.parametrize("first", ["engine", "aligner"])
def test_what_fails_first_is_told_and_not_what_follows_from_it(
    volume: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    failed = threading.Event()

    def fail(what: str) -> Any:
        if what != first:
            assert failed.wait(60)
            raise ImportError("half of a module is missing")
        try:
            raise SetupError(f"the {what} is damaged")
        finally:
            threading.Timer(0.2, failed.set).start()

    (volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner").mkdir()
    monkeypatch.setattr(module.Aligner, "load", lambda *_given, **_named: fail("aligner"))
    with pytest.raises(SetupError, match=f"the {first} is damaged"):
        Components.load(settings(volume), lambda: fail("engine"))


@pytest.mark.parametrize("broken", ["engine", "aligner"])
def test_a_failure_is_told_while_the_other_is_not_through(
    volume: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    told = threading.Event()

    def load(what: str) -> Any:
        if what == broken:
            raise SetupError(f"the {what} is damaged")
        return told.wait(60)

    (volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner").mkdir()
    monkeypatch.setattr(module.Aligner, "load", lambda *_given, **_named: load("aligner"))
    with pytest.raises(SetupError, match=f"the {broken} is damaged"):
        Components.load(settings(volume), lambda: load("engine"))
    assert not told.is_set()
    told.set()
