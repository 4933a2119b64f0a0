"""What must hold before the first job: a failing check says why in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from volume.layout import MODEL_PINS, pinned_revision
from worker.errors import SetupError
from worker.serve.fitness_checks import check_model, named


@pytest.fixture
def model(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / f"demo@{pinned_revision('demo')}"))


def test_a_whole_model_is_fit(model: Path) -> None:
    check_model(model)


@pytest.mark.parametrize("name", json.loads(MODEL_PINS.read_text())["models"])
def test_every_locked_model_can_be_checked(tmp_path: Path, name: str) -> None:
    """Files of the sizes that the lock says, where it says one; then the last of them is gone."""
    folder = tmp_path / f"{name}@{pinned_revision(name)}"
    for file in json.loads(MODEL_PINS.read_text())["models"][name]["files"]:
        path = folder / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, file["size"] or 10)  # takes no room
    check_model(folder)
    path.unlink()
    with pytest.raises(SetupError, match=re.escape(path.name)):
        check_model(folder)


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


def test_a_check_has_the_name_that_the_sdk_shows() -> None:
    def fail() -> None:
        raise SetupError("it is not there")

    check = named("model", fail)
    assert check.__name__ == "model"
    with pytest.raises(SetupError, match="not there"):
        check()
