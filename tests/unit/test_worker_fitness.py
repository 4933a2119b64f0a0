"""What must hold before the first job: a failing check says why in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from volume.layout import MODEL_LOCK, locked_revision
from worker.errors import SetupError
from worker.fitness import check_model, named
from worker.speech.gpu import check_gpu


@pytest.fixture
def model(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / f"demo@{locked_revision('demo')}"))


def test_a_whole_model_is_fit(model: Path) -> None:
    check_model(model)


@pytest.mark.parametrize("name", json.loads(MODEL_LOCK.read_text())["models"])
def test_every_locked_model_can_be_checked(tmp_path: Path, name: str) -> None:
    """Files of the sizes that the lock says, where it says one; then the last of them is gone."""
    folder = tmp_path / f"{name}@{locked_revision(name)}"
    for file in json.loads(MODEL_LOCK.read_text())["models"][name]["files"]:
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


def test_a_gpu_without_a_usable_driver_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_gpu(tmp_path)
    (tmp_path / "nvidiactl").symlink_to("/dev/null")  # a device as well
    with pytest.raises(SetupError, match="driver"):
        check_gpu(tmp_path)


@pytest.mark.parametrize(
    ("capability", "free", "said"),
    [
        ((6, 1), 8 << 30, "compute capability 6.1; 7.0 or newer"),
        ((8, 6), 300 << 20, "300 of 8192 MiB free beside the model; 1024 MiB are needed"),
        ((8, 6), 4 << 30, None),
    ],
)
def test_a_gpu_too_old_or_too_small_is_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], free: int, said: str | None
) -> None:
    for name, given in (
        ("is_available", True),
        ("get_device_name", "a GPU"),
        ("get_device_capability", capability),
        ("mem_get_info", (free, 8 << 30)),
    ):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda given=given: given)
    with pytest.raises(SetupError, match=said) if said else nullcontext():
        check_gpu()


def test_a_check_has_the_name_that_the_sdk_shows() -> None:
    def fail() -> None:
        raise SetupError("it is not there")

    check = named("model", fail)
    assert check.__name__ == "model"
    with pytest.raises(SetupError, match="not there"):
        check()
