"""What must hold before the first job: a failing check says why in one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from volume.layout import locked_revision
from worker.errors import SetupError
from worker.fitness import check_model, named
from worker.speech.gpu import check_gpu


@pytest.fixture
def model(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / f"demo@{locked_revision('demo')}"))


def test_a_whole_model_is_fit(model: Path) -> None:
    check_model(model)


@pytest.mark.parametrize("damage", ["missing", "short", "a folder"])
def test_a_damaged_model_is_named(model: Path, damage: str) -> None:
    file = model / "LLM" / "model.safetensors"
    if damage == "short":
        os.truncate(file, 1000)
    else:
        file.unlink()
    if damage == "a folder":
        file.mkdir()
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors of demo@.*verify --repair"):
        check_model(model)


def test_a_model_that_no_lock_names_is_read(model: Path) -> None:
    check_model(Path(shutil.move(model, model.with_name("mine@1"))))


def test_a_gpu_without_a_usable_driver_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_gpu(tmp_path)
    (tmp_path / "nvidiactl").touch()
    with pytest.raises(SetupError, match="driver"):
        check_gpu(tmp_path)


def test_a_check_has_the_name_that_the_sdk_shows() -> None:
    def fail() -> None:
        raise SetupError("it is not there")

    check = named("model", fail)
    assert check.__name__ == "model"
    with pytest.raises(SetupError, match="not there"):
        check()
