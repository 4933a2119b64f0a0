from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.hostile.desk import HostileDesk
from tests.platform.hostile.watch import Watch
from worker.speech.engine import Engine


@pytest.fixture(scope="session")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def desk(
    tiny_engine: Engine, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HostileDesk]:
    """A desk on the tiny random model, which speaks in every mode."""
    desk = HostileDesk(tiny_engine, tmp_path, watch)
    monkeypatch.setattr(tempfile, "tempdir", str(desk.scratch))
    yield desk
    desk.close()
