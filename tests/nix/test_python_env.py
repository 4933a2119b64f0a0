"""packages.python-env on a small lock: two builds, the same bytes; and each fault by its name."""

from __future__ import annotations

import json
import shutil
import sysconfig
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nix.conftest import NewWorkshop
from tests.nix.workshop import Workshop
from tests.support.faulty_http import sha256
from tests.support.index_server import Wheel, make_wheel

CODE = b"NAMES = {'some', 'of', 'them'}\ndef answer() -> int:\n    return 42\n"
PROGRAM = """
from importlib.metadata import version
import fast, part_one, shared.one, shared.two
print(part_one.answer(), part_one.__cached__, version("part-two"), version("fast"))
"""
WHEELS = [
    make_wheel("part-one", "1.0", {"part_one.py": CODE, "shared/one.py": b"ONE = 1\n"}),
    make_wheel("part-two", "2.0", {"part_two.py": CODE, "shared/two.py": b"TWO = 2\n"}),
    # As flash-attn's: from a URL, its version with a local part that its metadata lacks.
    make_wheel("fast", "2.0.post2", {"fast.py": b"FAST = True\n"}, local="+cu1torch2"),
]


@pytest.fixture(scope="module")
def tools(new_workshop: NewWorkshop, wheelhouse: Path, tree: Path) -> Workshop:
    """A store with uv and Python in it, and the wheels where they are looked for."""
    workshop = new_workshop("tools")
    for wheel in WHEELS:
        (wheelhouse / wheel.file).write_bytes(wheel.data)
    for name in ("python311", "uv"):
        workshop.build(f"legacyPackages.x86_64-linux.{name}", workshop.nixpkgs)
    return workshop


def small_tree(tree: Path, folder: Path, wheels: Sequence[Wheel]) -> Path:
    """Copy the tree; its lock has these wheels."""
    shutil.copytree(tree, folder)
    entries = [
        {"name": wheel.name, "version": wheel.version, "file": wheel.file}
        | {"sha256": sha256(wheel.data), "unpacked": wheel.unpacked, "requires": []}
        | ({"url": f"https://x.invalid/{wheel.file}"} if "+" in wheel.file else {"path": "x"})
        for wheel in wheels
    ]
    lock = {"python": "3.11", "platform": "any", "wheels": entries}
    (folder / "volume" / "pins" / "environment.json").write_text(json.dumps(lock))
    return folder


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
