"""A step as it is captured on a GPU, run here uncaptured: the same tokens whatever its size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worker.speech.graphs import LENGTHS, SIZES, holding
from worker.speech.lm import LanguageModel
from worker.speech.plan import Head
from worker.speech.rows import RowState
from worker.speech.sampling import Sampling

CPU = torch.device("cpu")
PROMPTS = [(5, 6, 7, 8), (9,), (10, 11, 12)]
SAMPLINGS = [Sampling(temperature=0), Sampling(seed=3), Sampling(top_k=7, top_p=0.5, seed=9)]


@pytest.fixture(scope="module")
def lm(tiny_checkpoint: Path) -> LanguageModel:
    return LanguageModel.load(tiny_checkpoint / "LLM", torch.float32, CPU)


def started(lm: LanguageModel, slots: int) -> tuple[RowState, Head]:
    rows = RowState(lm, slots, 1024)
    ids = torch.arange(20, 400)
    head = Head(ids, lm.head(ids), end=7)
    hidden = lm.prefill(PROMPTS, rows.cache.rows(0, len(PROMPTS)))
    for place, (prompt, how) in enumerate(zip(PROMPTS, SAMPLINGS, strict=True)):
        rows.set(place, f"row {place}", 50, len(prompt), 0, 1, how)
    rows.draw(hidden, slice(0, len(PROMPTS)), head)
    return rows, head


def steps(lm: LanguageModel, slots: int, count: int, length: int | None) -> list[list[int]]:
    with torch.inference_mode():
        rows, head = started(lm, slots)
        return [
            rows._turn(count, length or 5 + step, head, 64)[: len(PROMPTS)].tolist()
            for step in range(20)
        ]


def test_a_padded_step_draws_what_an_exact_one_does(lm: LanguageModel) -> None:
    exact = steps(lm, 3, 3, None)
    assert steps(lm, 8, 8, 512) == exact
    assert steps(lm, 4, 4, 1024) == exact
    assert len({token for row in exact for token in row}) > 10


def test_places_past_the_batch_stay_within_the_cache(lm: LanguageModel) -> None:
    with torch.inference_mode():
        rows, head = started(lm, 4)
        rows.at[3] = 1022
        for _ in range(5):
            rows._turn(4, 1024, head, 64)
        assert rows.at[3] == 1023
        assert (rows.drawn < 1024).all()


def test_the_smallest_size_that_holds_a_batch_is_taken() -> None:
    assert [holding(SIZES, n, 16) for n in (1, 3, 8, 9, 16, 17)] == [1, 4, 8, 16, 16, None]
    assert holding(LENGTHS, 513, 4096) == 1024
    assert holding(LENGTHS, 5000, 9000) is None


def test_a_row_that_moves_goes_on_as_it_would_have(lm: LanguageModel) -> None:
    exact = steps(lm, 3, 3, None)
    with torch.inference_mode():
        rows, head = started(lm, 3)
        seen = [rows._turn(3, 100, head, 64).tolist() for _ in range(10)]
        rows.move(2, 0, int(rows.at[2]))
        moved = [rows._turn(2, 100, head, 64).tolist() for _ in range(10)]
    assert seen == exact[:10]
    assert [row[0] for row in moved] == [row[2] for row in exact[10:]]
    assert [row[1] for row in moved] == [row[1] for row in exact[10:]]
