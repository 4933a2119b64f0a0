"""packages.python-env on a small lock: two builds, the same bytes; and each fault by its name."""

from __future__ import annotations

import shutil
import sysconfig
import wave
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nix.small_lock import WHEELS, small_tree
from tests.nix.workshop import Workshop
from tests.support.index_server import make_wheel

PROGRAM = """
from importlib.metadata import version
import fast, part_one, shared.one, shared.two
print(part_one.answer(), part_one.__cached__, version("part-two"), version("fast"))
"""


def test_two_builds_are_the_same(tools: Workshop, tree: Path, place: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("here", "there"):
        shutil.copytree(tools.folder, place / f"store-{name}", symlinks=True)
        workshop = replace(tools, folder=place / f"store-{name}")
        path = workshop.build("python-env", small_tree(tree, tmp_path / name, WHEELS))
        closure = workshop.run("nix-store", "--query", "--requisites", path).stdout.decode().split()
        contents.append({member: workshop.content(member) for member in closure})
    assert contents[0] == contents[1]
    assert len([path for path in contents[0] if "-wheel-" in path]) == len(WHEELS)
    done = workshop.run(f"{path}/bin/python", "-c", PROGRAM)
    assert done.returncode == 0, done.stderr.decode()
    answer, cached, *versions = done.stdout.decode().split()
    assert answer == "42"
    assert (workshop.folder / Path(cached).relative_to("/nix")).is_symlink()
    assert versions == ["2.0", "2.0.post2"]


def test_a_wheel_with_another_hash(tools: Workshop, tree: Path, tmp_path: Path) -> None:
    edited = replace(WHEELS[0], data=b"other bytes")
    said = tools.fails("build", "FLAKE#python-env", tree=small_tree(tree, tmp_path / "t", [edited]))
    assert "hash mismatch" in said
    assert WHEELS[0].file in said


def test_a_wheel_that_is_nowhere(tools: Workshop, tree: Path, tmp_path: Path) -> None:
    missing = make_wheel("missing", "1.0", {})
    said = tools.fails(
        "build", "FLAKE#python-env", tree=small_tree(tree, tmp_path / "t", [missing])
    )
    assert missing.file in said


def test_an_edited_version(tools: Workshop, tree: Path, tmp_path: Path) -> None:
    edited = replace(WHEELS[1], version="2.1")
    said = tools.fails("build", "FLAKE#python-env", tree=small_tree(tree, tmp_path / "t", [edited]))
    assert "wheel-part-two" in said
    assert "part-two==2.1" in said


def test_a_model_is_installed_by_nix_run(tools: Workshop, tree: Path, tmp_path: Path) -> None:
    """Without RunPod's volume, in a folder below the user's own."""
    small = small_tree(tree, tmp_path / "t", WHEELS)
    done = tools.nix("run", "FLAKE#install", tree=small, to_it=["--model", "demo"])
    assert done.returncode == 0, done.stderr.decode()
    folder = Path(done.stdout.decode().strip())
    assert folder.is_relative_to(tools.folder / ".local/share/spark-tts/SparkTTS-serverless")
    assert (folder / "LLM" / "model.safetensors").exists()


@pytest.mark.image
def test_speech_by_nix_run(tools: Workshop, tree: Path, tmp_path: Path) -> None:
    """The packages that the small lock lacks are those of this machine."""
    small = small_tree(tree, tmp_path / "t", WHEELS)
    variables = {"SPARK_MODEL": "demo", "PYTHONPATH": sysconfig.get_path("purelib")}
    text = "Please, turn off the light."
    for to_it in ([text], [text, "--gender", "male"]):
        done = tools.nix("run", "FLAKE", tree=small, to_it=to_it, **variables)
        assert done.returncode == 0, done.stderr.decode()
        with wave.open(str(tools.folder / "speech.wav")) as audio:
            assert audio.getnframes() / audio.getframerate() > 0.5
        (tools.folder / "speech.wav").unlink()
