"""docs/ARCHITECTURE.md leads to files that are there, and names every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.worker_process import REPOSITORY

PAGE = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
# A path in backticks: of the repository, or of the worker's packages without `worker/`.
PATHS = sorted({*re.findall(r"`((?:[a-z0-9_]+/)+(?:[A-Za-z0-9_]+\.(?:py|c|toml|json))?)`", PAGE)})
ROOTS = (REPOSITORY, REPOSITORY / "worker", REPOSITORY / "worker" / "speech", REPOSITORY / "tests")


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_there(path: str) -> None:
    on_a_volume = path in {"logs/", "local/", "output/", "voices/", "voices/NAME.json"}
    assert on_a_volume or any((root / path).exists() for root in ROOTS)


def test_paths_are_found() -> None:
    assert len(PATHS) > 40


@pytest.mark.parametrize("package", ["worker", "worker/speech", "volume"])
def test_the_drawing_has_every_room(package: str) -> None:
    drawing = PAGE[PAGE.index("```\nworker/") :].split("```")[1]
    names = {*re.findall(r"\w+", drawing)}
    rooms = {
        entry.stem
        for entry in Path(REPOSITORY / package).iterdir()
        if entry.is_dir() or (entry.suffix == ".py" and package != "worker")
    } - {"__pycache__", "__init__", "demo"}
    # What stands at the bottom is "..." in the drawing: values and small things.
    small = {"device_errors", "fair_lock", "tensors", "stops", "start_clock", "atomic_write"}
    assert rooms - small <= names


def test_the_ways_name_modules_that_are_there() -> None:
    ways = PAGE[PAGE.index("## The way of a job") : PAGE.index("## Words")]
    names = re.findall(r"^[ │├└]*([a-z]+(?:/[a-z_0-9]+)+)", ways, re.MULTILINE)
    assert len(names) > 20
    for name in names:
        places = [root / name for root in ROOTS]
        assert any(p.exists() or p.with_suffix(".py").exists() for p in places), name
