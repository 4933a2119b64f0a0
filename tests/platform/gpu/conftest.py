"""A small random checkpoint, and the engine on a CPU that the dry GPU's is held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from worker.speech.engine import Engine


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("dry"), Sizes(positions=1024))


@pytest.fixture(scope="session")
def on_cpu(checkpoint: Path) -> Engine:
    return Engine.load(checkpoint, "float32", "cpu")
