"""The checks before the first job: what each accepts, refuses and logs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.events import Events
from tests.support.small_components import SmallParts, small_components
from volume.layout import MODEL_PINS, pinned_revision
from worker.errors import DeviceError, SetupError, StorageError
from worker.serve import fitness_checks
from worker.serve.fitness_checks import check_model, check_speech, check_storage, named
from worker.stopwatch import Stopwatch

LOCKED = {
    "mine": {
        "revision": "1",
        "files": [{"path": "a/weights", "size": 4}, {"path": "config", "size": None}],
    }
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lock = tmp_path / "models.json"
    lock.write_text(json.dumps({"models": LOCKED}))
    monkeypatch.setattr(fitness_checks, "MODEL_PINS", lock)
    folder = tmp_path / "mine@1"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "weights").write_bytes(b"1234")
    (folder / "config").write_bytes(b"any size")
    return folder


def test_a_model_of_the_locked_sizes_is_fit(model: Path) -> None:
    check_model(model)
    (model / "more").touch()  # beside what the lock names: prepared files
    check_model(model)


@pytest.mark.parametrize("content", [b"", b"123", b"12345"])
def test_a_file_of_another_size_is_named_with_both(model: Path, content: bytes) -> None:
    (model / "a" / "weights").write_bytes(content)
    with pytest.raises(SetupError) as refused:
        check_model(model)
    assert refused.value.message == (
        f"a/weights of mine@1 has {len(content)} bytes, not 4; "
        "run: python -m volume verify --repair"
    )


def test_a_file_of_unknown_size_must_be_there_all_the_same(model: Path) -> None:
    (model / "config").unlink()
    with pytest.raises(SetupError, match=r"config of mine@1 cannot be read \(No such file"):
        check_model(model)


def test_another_revision_is_held_to_nothing_but_that_it_can_be_read(model: Path) -> None:
    other = model.rename(model.with_name("mine@2"))
    (other / "a" / "weights").write_bytes(b"123456")
    check_model(other)
    (other / "config").unlink()
    check_model(other)


def test_an_own_model_is_held_to_the_sizes_that_its_install_recorded(model: Path) -> None:
    own = model.rename(model.with_name("me--voice@2"))
    files = [{"path": "a/weights", "size": 4}, {"path": "config", "size": 8}]
    (own / "manifest.json").write_text(json.dumps({"files": files}))
    check_model(own)
    (own / "config").write_bytes(b"short")
    with pytest.raises(SetupError, match="config of me--voice@2 has 5 bytes, not 8"):
        check_model(own)
    (own / "config").unlink()
    with pytest.raises(SetupError, match="config of me--voice@2 cannot be read"):
        check_model(own)
    (own / "manifest.json").write_text("{")
    check_model(own)


@pytest.mark.parametrize("name", ["mine@1", "mine@2"])
def test_what_the_platform_has_cached_no_more_is_told_with_what_downloads_it(
    model: Path, name: str
) -> None:
    folder = model.rename(model.with_name(name))
    blob = (folder / "config").rename(folder.with_name("blob"))
    (folder / "config").symlink_to(blob)
    check_model(folder)
    blob.unlink()
    with pytest.raises(SetupError, match=r"config of mine@. .* platform .* gone .*volume run"):
        check_model(folder)


def said(samples: Any) -> Callable[[], Any]:
    @dataclass
    class Said:
        samples: Any

    return lambda: Said(np.asarray(samples, np.float32))


@pytest.fixture
def small(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


def test_a_synthesis_of_numbers_is_fit(small: SmallParts) -> None:
    small.engine.try_out = said([0.0, 0.5])
    check_speech(small.components)


@pytest.mark.parametrize("samples", [[np.nan] * 3, [0.5, np.nan], [np.inf, 0.5]])
def test_a_synthesis_with_a_sample_that_is_none_is_unfit(
    small: SmallParts, samples: list[float]
) -> None:
    small.engine.try_out = said(samples)
    with pytest.raises(SetupError, match="gave no numbers"):
        check_speech(small.components)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (DeviceError("the GPU failed"), "(the GPU failed)"),
        (ValueError("first line\nsecond line"), "(ValueError: first line)"),
    ],
)
def test_a_synthesis_that_fails_is_told_in_one_line(
    small: SmallParts, error: Exception, shown: str
) -> None:
    def fail() -> None:
        raise error

    small.engine.try_out = fail
    with pytest.raises(SetupError) as refused:
        check_speech(small.components)
    assert refused.value.message == f"a short synthesis failed {shown}"


def test_a_storage_is_asked(small: SmallParts, tmp_path: Path) -> None:
    check_storage(small.components)

    class Refusing(type(small.storage)):
        def check(self) -> None:
            raise StorageError("the bucket is gone")

    components = replace(small.components, storage=Refusing(tmp_path))
    with pytest.raises(SetupError, match="the bucket is gone"):
        check_storage(components)


def test_what_a_check_finds_is_logged(events: Events) -> None:
    called: list[bool] = []
    named("gpu", lambda: called.append(True), Stopwatch())()

    def fail() -> None:
        raise OSError("first\nsecond")

    with pytest.raises(OSError, match="first"):
        named("model", fail, Stopwatch())()
    assert called == [True]
    fit, unfit = events.with_levels()
    assert fit == ("INFO", "check passed", {"check": "gpu", "seconds": fit[2]["seconds"]})
    assert fit[2]["seconds"] >= 0
    assert unfit == ("ERROR", "check failed", {"check": "model", "error": "OSError: first"})


# --- real models


@pytest.fixture
def demo_model(demo_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_checkpoint, tmp_path / f"demo@{pinned_revision('demo')}"))


def test_a_whole_model_is_fit(demo_model: Path) -> None:
    check_model(demo_model)


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
def test_a_damaged_model_is_named(demo_model: Path, damage: str) -> None:
    file = demo_model / "LLM" / "model.safetensors"
    if damage == "short":
        os.truncate(file, 1000)
    else:
        file.unlink()
    if damage == "a folder":
        file.mkdir()
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors of demo@.*verify --repair"):
        check_model(demo_model)


def test_a_model_that_no_lock_names_is_read(demo_model: Path) -> None:
    check_model(Path(shutil.move(demo_model, demo_model.with_name("mine@1"))))


def test_a_check_has_the_name_that_the_sdk_shows() -> None:
    def fail() -> None:
        raise SetupError("it is not there")

    check = named("model", fail, Stopwatch())
    assert check.__name__ == "model"
    with pytest.raises(SetupError, match="not there"):
        check()
