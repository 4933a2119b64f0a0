"""The embedded demo model: its lock equals its files, and it installs whole or not at all."""

import json
from pathlib import Path

import pytest

from volume.__main__ import main
from volume.layout import MODEL_PINS, Layout, LayoutError
from volume.manifest import scan
from volume.pinning.demo import demo_entry
from volume.pins import pinned_model


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("RUNPOD_VOLUME", str(tmp_path))
    return Layout(tmp_path)


def test_the_lock_equals_the_files_in_the_repository():
    assert json.loads(MODEL_PINS.read_text())["models"]["demo"] == demo_entry()


def test_install_puts_every_locked_file_and_the_reference_clip_on_the_volume(layout: Layout):
    assert main(["install", "--model", "demo"]) == 0
    lock = pinned_model("demo")
    installed = {file.path: file for file in scan(layout.model("demo"))}
    assert [installed[file.path] for file in lock.files] == list(lock.files)
    assert scan(layout.local_storage / "voices") == lock.voices


def test_installing_again_keeps_a_reference_clip_of_the_user(layout: Layout):
    clip = layout.local_storage / "voices" / "demo.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"mine")
    assert main(["install", "--model", "demo"]) == 0
    assert main(["install", "--model", "demo"]) == 0
    assert clip.read_bytes() == b"mine"
    assert sorted(p.name for p in clip.parent.iterdir()) == ["demo.wav"]


def test_an_absent_model_is_named_with_the_command_that_installs_it(layout: Layout):
    with pytest.raises(LayoutError, match="python -m volume install --model demo"):
        layout.model("demo")


def test_an_unknown_model_is_refused_with_the_known_names(
    layout: Layout, capsys: pytest.CaptureFixture[str]
):
    assert main(["install", "--model", "dmeo"]) != 0
    assert "Spark-TTS-0.5B, aligner-en, aligner-zh, demo" in capsys.readouterr().err
