"""Where pages or memory run out on the worker's own kernels, run dry: no token is another."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.dry_gpu.engine import loaded_fused
from tests.support.rows import KINDS, alone, grammar_of, request, tokens_of
from worker.speech.batch.fused_batch import FusedBatch
from worker.speech.batch.scheduler import Scheduler
from worker.speech.engine import Engine


@pytest.fixture
def crowded(fused_checkpoint: Path) -> Iterator[tuple[Engine, Scheduler]]:
    """A scheduler of three rows and five pages: as many as one of them may need."""
    with loaded_fused(fused_checkpoint) as (_gpu, engine):
        engine._lm.pages_of_row = 1
        scheduler = engine._scheduler = Scheduler(engine._lm, 3, 320)
        scheduler.prepare(grammar_of(engine))
        yield engine, scheduler


def test_one_that_gave_its_pages_up_goes_on_as_if_it_had_not(
    crowded: tuple[Engine, Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, scheduler = crowded
    requests = [request(engine, length, 40) for length in (50, 51, 52)]
    hows = [replace(how, min_tokens=40) for how in KINDS[:3]]
    expected = alone(engine, requests, hows)
    gave_way = []
    give_way = Scheduler._give_way
    monkeypatch.setattr(
        Scheduler, "_give_way", lambda self: (gave_way.append(len(self._running)), give_way(self))
    )
    asked = []
    for one, how in zip(requests, hows, strict=True):
        asked += scheduler.submit([one], grammar_of(engine), how)
    assert tokens_of(asked) == expected
    assert gave_way
    assert scheduler.slots == 3


def test_where_memory_runs_short_half_of_them_go_on_as_if_it_had_not(
    crowded: tuple[Engine, Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, scheduler = crowded
    requests = [request(engine, length, 20) for length in (30, 31)]
    expected = alone(engine, requests, KINDS[:2])
    advance = FusedBatch.advance
    ran = []

    def short(batch: FusedBatch, count: int, length: int, speaking: Collection[int]) -> Tensor:
        ran.append(count)
        if len(ran) == 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return advance(batch, count, length, speaking)

    monkeypatch.setattr(FusedBatch, "advance", short)
    asked = []
    for one, how in zip(requests, KINDS, strict=False):
        asked += scheduler.submit([one], grammar_of(engine), how)
    assert tokens_of(asked) == expected
    assert scheduler.slots == 1
    assert scheduler._batch._graphs is not None
