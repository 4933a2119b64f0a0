"""The flake as it is written: it evaluates, its lock pins, and it says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nix.conftest import NewWorkshop
from tests.nix.workshop import REPOSITORY, Workshop

SYSTEM = "x86_64-linux"
OUTPUTS = {
    "apps": ["default", "install", "worker"],
    "checks": ["environment", "lint", "lock", "speech", "types", "unit-tests"],
    "devShells": ["default"],
    "packages": ["default", "image", "image-full", "python-env", "sbom", "sbom-full"],
}


@pytest.fixture(scope="module")
def workshop(new_workshop: NewWorkshop) -> Workshop:
    return new_workshop("evaluation")


def changed(tree: Path, folder: Path, change: dict[str, Any]) -> Path:
    """Copy the tree, with some top-level entries of the environment's lock replaced."""
    shutil.copytree(tree, folder)
    lock = folder / "volume" / "pins" / "environment.json"
    lock.write_text(json.dumps(json.loads(lock.read_text()) | change))
    return folder


def test_every_output_evaluates(workshop: Workshop, tree: Path) -> None:
    done = workshop.nix("flake", "check", "--no-build", "FLAKE", tree=tree)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_outputs_are_these(workshop: Workshop, tree: Path, kind: str) -> None:
    done = workshop.nix(
        "eval", "--json", f"FLAKE#{kind}.{SYSTEM}", "--apply", "builtins.attrNames", tree=tree
    )
    assert json.loads(done.stdout) == OUTPUTS[kind]


def test_the_lock_is_for_another_python(workshop: Workshop, tree: Path, tmp_path: Path) -> None:
    other = changed(tree, tmp_path / "tree", {"python": "3.12"})
    said = workshop.fails("eval", "FLAKE#packages.x86_64-linux.image.drvPath", tree=other)
    assert "environment.json is for Python 3.12, nixpkgs' python311 is 3.11" in said


def test_inputs_are_pinned_by_content() -> None:
    nodes = json.loads((REPOSITORY / "flake.lock").read_text())["nodes"]
    flake = (REPOSITORY / "flake.nix").read_text()
    assert set(nodes.pop("root")["inputs"]) == set(nodes) == {"nixpkgs", "spark-tts"}
    for node in nodes.values():
        locked = node["locked"]
        assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])
        assert re.fullmatch(r"[0-9a-f]{40}", locked["rev"])
        asked = node["original"]
        parts = [asked["owner"], asked["repo"], *filter(None, [asked.get("ref")])]
        assert f'"github:{"/".join(parts)}"' in flake


def test_no_address_is_written_in_the_flake() -> None:
    """Wheels come from what the lock says or from where nixpkgs knows that the index is."""
    for path in [REPOSITORY / "flake.nix", *(REPOSITORY / "nix").iterdir()]:
        assert "://" not in path.read_text(), path.name


def test_the_workflow_pushes_both_images_under_the_same_tags() -> None:
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/image.yml").read_text())["jobs"]
    tagged = {}
    for name, output in (("publish", ""), ("publish-full", "-full")):
        (script,) = (step["run"] for step in jobs[name]["steps"] if step.get("id") == "push")
        tagged[output] = set(re.findall(r'"\$repository:\$(\w+)(-full)?"', script))
        assert 'for tag in "$version" latest; do' in script
    assert {name for name, _ in tagged[""]} == {name for name, _ in tagged["-full"]}
    assert {end for _, end in tagged[""]} == {""}
    assert {end for _, end in tagged["-full"]} == {"-full"}
    built = re.findall(r"\.#([\w-]+)", json.dumps(jobs))
    assert {"image", "image-full", "sbom", "sbom-full"} <= set(built) <= {*OUTPUTS["packages"]}
    assert set(jobs["release"]["needs"]) == {"publish", "publish-full"}


def test_what_the_document_runs_is_there() -> None:
    """The commands of docs/NIX.md that need nixpkgs name outputs of the flake."""
    text = (REPOSITORY / "docs" / "NIX.md").read_text()
    named = set(re.findall(r"nix (run|build|develop)(?: -\S+)* \.(?:#([\w.-]+))?", text))
    assert named
    kinds = {"run": "apps", "build": "packages", "develop": "devShells"}
    for verb, name in named:
        kind, _, output = name.rpartition(f".{SYSTEM}.")
        assert (output or "default") in OUTPUTS[kind or kinds[verb]], f"nix {verb} .#{name}"
