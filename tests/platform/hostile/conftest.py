from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.platform.hostile.door import Door
from tests.platform.hostile.watch import Watch
from worker.speech.engine import Engine


@pytest.fixture(scope="session")
def many() -> Callable[[int, int], int]:
    """How many inputs of a kind: all of them under `make hostile`, some in every test run."""
    full = os.environ.get("HOSTILE") == "full"
    return lambda all_of_them, some: all_of_them if full else some


@pytest.fixture(scope="session")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def door(
    tiny_engine: Engine, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Door]:
    """A door on the tiny random model, which speaks in every mode."""
    door = Door(tiny_engine, tmp_path, watch)
    monkeypatch.setattr(tempfile, "tempdir", str(door.scratch))
    yield door
    door.close()
