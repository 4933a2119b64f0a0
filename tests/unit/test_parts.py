"""What is loaded once: from the right folders, and refused in words where it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.small_parts import ToneEngine
from worker import parts as module
from worker.errors import SetupError
from worker.parts import Parts
from worker.settings import Settings
from worker.speech.engine import Engine
from worker.storage import LocalStorage


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "SparkTTS-serverless" / "models" / "mine@1").mkdir(parents=True)
    return tmp_path


def settings(volume: Path, **more: Any) -> Settings:
    given = {"runpod_volume": volume, "spark_model": "mine@1", "s3_bucket_name": None, **more}
    return Settings(**given)


def load(volume: Path, engine: Any = None, **more: Any) -> Parts:
    return Parts.load(settings(volume, **more), lambda: engine or ToneEngine())


def test_all_is_of_the_settings(volume: Path) -> None:
    engine = ToneEngine()
    parts = load(volume, engine, s3_url_expiry=99, s3_voices_prefix="v/", s3_output_prefix="o/")
    assert parts.engine is engine
    assert parts.url_expiry == 99
    assert (parts.keys.voices, parts.keys.output) == ("v/", "o/")
    assert parts.aligner is None
    assert isinstance(parts.storage, LocalStorage)
    home = volume / "SparkTTS-serverless"
    assert parts.storage._folder == home / "local"
    # A model's cache is its own: another's tokens are other sounds.
    assert parts.voices._cache == home / "voices" / "mine@1"


def test_each_revision_of_a_model_has_a_cache_of_its_own(volume: Path) -> None:
    """SPARK_MODEL may leave the revision out."""
    parts = load(volume, spark_model="mine")
    assert parts.voices._cache == volume / "SparkTTS-serverless" / "voices" / "mine@1"


def test_a_reference_of_the_storage_is_fetched_into_the_jobs_folder(
    volume: Path, tmp_path: Path
) -> None:
    parts = load(volume, local_storage_dir=tmp_path / "bucket")
    parts.storage.write_bytes("voices/ann.wav", b"sound", "audio/wav")
    (tmp_path / "job").mkdir()
    found = parts.fetch_reference("ann.wav", tmp_path / "job")
    assert found.parent == tmp_path / "job"
    assert found.read_bytes() == b"sound"


def test_a_model_that_is_not_there_is_a_setup_error_before_anything_is_loaded(
    volume: Path,
) -> None:
    def loading() -> Engine:
        pytest.fail("it is loaded")

    with pytest.raises(SetupError, match="volume install --model other"):
        Parts.load(settings(volume, spark_model="other"), loading)


def test_the_engine_is_loaded_here_where_no_other_thread_does(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def load_engine(*given: Any) -> Any:
        seen.append(given)
        return ToneEngine()

    monkeypatch.setattr(module.Engine, "load", load_engine)
    Parts.load(settings(volume, spark_dtype="float32"))
    assert seen == [(volume / "SparkTTS-serverless" / "models" / "mine@1", "float32")]


def test_the_aligner_is_of_the_languages_that_are_installed(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner"
    own.mkdir()
    monkeypatch.setattr(module.Aligner, "load", lambda folders: folders)
    assert load(volume, whisperx_languages="en").aligner == {"en": own}
    assert load(volume, whisperx_languages="zh").aligner is None


def test_an_aligner_that_cannot_be_loaded_stops_the_worker(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folders: object) -> None:
        raise SetupError("the aligner is damaged")

    (volume / "SparkTTS-serverless" / "models" / "mine@1" / "aligner").mkdir()
    monkeypatch.setattr(module.Aligner, "load", fail)
    with pytest.raises(SetupError, match="damaged"):
        load(volume)
