"""A small random checkpoint, and the engine on a CPU that the dry GPU's is held against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.dry_gpu.streams import Gpu
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from worker.speech.batch.scheduler import Scheduler
from worker.speech.engine import Engine


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_checkpoint(tmp_path_factory.mktemp("dry"), Sizes(positions=1024))


@pytest.fixture(scope="session")
def on_cpu(checkpoint: Path) -> Engine:
    return Engine.load(checkpoint, "float32", "cpu")


@pytest.fixture(scope="session")
def fused_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of sizes that the worker's own kernels can run; they are slow here."""
    sizes = Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96, layers=2, positions=320)
    return make_random_checkpoint(tmp_path_factory.mktemp("fused"), sizes)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[Gpu], list[int]]:
    """From now on no step may wait for the device; the list gets the rows of each."""

    def guard(gpu: Gpu) -> list[int]:
        rows: list[int] = []
        step = Scheduler._advance

        def guarded(scheduler: Scheduler) -> None:
            rows.append(len(scheduler._running))
            with gpu.unsynchronised():
                step(scheduler)

        monkeypatch.setattr(Scheduler, "_advance", guarded)
        return rows

    return guard
