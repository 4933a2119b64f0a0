"""Where things lie, and what a reader is told that does not find them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volume import layout as module
from volume.layout import PREPARED, Layout, LayoutError, pinned_revision, pinned_wheel
from volume.pins import pinned_environment, pinned_model


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A volume, and a lock that names one model."""
    lock = tmp_path / "models.json"
    lock.write_text(json.dumps({"models": {"locked": {"revision": "2"}}}))
    monkeypatch.setattr(module, "MODEL_PINS", lock)
    return Layout(tmp_path / "mount")


def put(layout: Layout, *names: str) -> None:
    for name in names:
        (layout.models / name).mkdir(parents=True)


def test_the_folders_are_those_of_the_documents() -> None:
    root = Path("/v/SparkTTS-serverless")
    layout = Layout(Path("/v"))
    assert layout.root == root
    assert layout.environments == root / "envs"
    assert layout.models == root / "models"
    assert layout.voices == root / "voices"
    assert layout.local_storage == root / "local"
    assert layout.cache == root / "cache"
    assert layout.leases == root / "locks"
    assert layout.uses == root / "uses"
    assert layout.site_packages("abc") == root / "envs" / "abc" / "site-packages"


def test_a_name_alone_means_the_locked_revision(layout: Layout) -> None:
    put(layout, "locked@1", "locked@2", "locked@3")
    assert layout.model("locked").name == "locked@2"
    assert layout.model("locked@3").name == "locked@3"


def test_another_revision_does_not_stand_in_for_the_locked_one(layout: Layout) -> None:
    put(layout, "locked@1")
    with pytest.raises(LayoutError, match="install it with: python -m volume install"):
        layout.model("locked")


def test_a_model_that_the_lock_does_not_name_must_be_the_only_one(layout: Layout) -> None:
    put(layout, "own@1")
    (layout.models / "own@note").touch()
    put(layout, "owner@1")  # another's, whose name begins alike
    assert layout.model("own").name == "own@1"
    put(layout, "own@0")
    with pytest.raises(LayoutError, match=r"several revisions of model 'own'.*: own@0, own@1$"):
        layout.model("own")
    assert layout.model("own@1").name == "own@1"


@pytest.mark.parametrize("name", ["own", "own@1", "locked"])
def test_a_model_that_is_not_there_is_told_with_its_command_and_nothing_is_made(
    layout: Layout, name: str
) -> None:
    with pytest.raises(LayoutError, match=f"model '{name}' is not on the volume .* --model {name}"):
        layout.model(name)
    assert not layout.mount.exists()


def test_what_is_locked_is_known_by_name() -> None:
    assert pinned_revision("demo") == pinned_model("demo").revision
    assert pinned_revision("nobody") is None
    torch = next(wheel for wheel in pinned_environment().wheels if wheel.name == "torch")
    assert pinned_wheel("torch") == torch.file
    assert pinned_wheel("nothing") is None


def test_the_recipes_name_says_its_number() -> None:
    assert PREPARED.startswith("prepared-")
    assert PREPARED.removeprefix("prepared-").isdigit()
