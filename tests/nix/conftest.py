"""What the tests of the flake share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nix.host import write_nixpkgs, write_upstream
from tests.nix.small_lock import WHEELS
from tests.nix.workshop import Workshop, copy_tree

NewWorkshop = Callable[[str], Workshop]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for stores and images, gone afterwards: they are large."""
    folder = tmp_path_factory.mktemp("nix")
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)  # not so slow as Python
    subprocess.run(["rm", "-r", folder], check=True)


@pytest.fixture(scope="session")
def wheelhouse(place: Path) -> Path:
    """Where the stand-in's fetchers look for wheels."""
    folder = place / "wheelhouse"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def new_workshop(place: Path, wheelhouse: Path) -> NewWorkshop:
    """Makes empty stores."""
    nixpkgs = write_nixpkgs(place / "nixpkgs", wheelhouse)
    upstream = write_upstream(place / "upstream")

    def make(name: str) -> Workshop:
        (place / name).mkdir()
        return Workshop(place / name, nixpkgs, upstream)

    return make


@pytest.fixture(scope="session")
def tree(place: Path) -> Path:
    """A copy of the working tree."""
    return copy_tree(place / "tree")


@pytest.fixture(scope="session")
def tools(new_workshop: NewWorkshop, wheelhouse: Path, tree: Path) -> Workshop:
    """A store with uv and Python in it, and the wheels where they are looked for."""
    workshop = new_workshop("tools")
    for wheel in WHEELS:
        (wheelhouse / wheel.file).write_bytes(wheel.data)
    for name in ("python311", "uv"):
        workshop.build(f"legacyPackages.x86_64-linux.{name}", workshop.nixpkgs)
    return workshop
