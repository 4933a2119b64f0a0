"""Speech on the worker's own kernels, run dry: pages, prompts in parts, graphs, every kind of draw.

The kernels are those of lm.cu, which tests/support/cuda_on_cpu runs on a CPU, a thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.gpu.inside import its_stream, poison
from tests.support.dry_gpu.engine import loaded_fused, replays
from tests.support.dry_gpu.streams import Gpu, Graph
from tests.support.rows import KINDS, alone, grammar_of, request, tokens_of
from tests.support.scheduling import occupancy
from tests.support.waiting import until
from worker.errors import JobCancelledError, SynthesisError
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.fused_batch import FusedBatch
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.lm.paged_cache import PagedCache, PagedRows
from worker.speech.voice import Style

TEXTS = ["The boy walked to the river.", "It was cold."]
HOW = Sampling(max_tokens=14, min_tokens=8, seed=3)
STYLE = Style("female", "moderate", "high")


@pytest.fixture(scope="module")
def torchs(fused_checkpoint: Path) -> list[tuple[int, ...]]:
    """Greedy tokens of the same model on torch's kernels."""
    with loaded_fused(fused_checkpoint, fused=False) as (_gpu, engine):
        assert type(engine._scheduler._batch) is DeviceBatch
        return greedy_tokens(engine)


@pytest.fixture(scope="module")
def fused(fused_checkpoint: Path, torchs: object) -> Iterator[tuple[Gpu, Engine]]:
    """On the worker's own; after the other, for there is one dry GPU at a time."""
    with loaded_fused(fused_checkpoint) as found:
        yield found


@pytest.fixture
def parts(fused: tuple[Gpu, Engine], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each part of a prompt begins that is read from now on."""
    lm, begun = fused[1]._lm, []
    prefill = lm.prefill

    def noted(
        parts: Sequence[Sequence[int]], cache: PagedRows, begins: Sequence[int] = ()
    ) -> Tensor:
        begun.extend(begins)
        return prefill(parts, cache, begins)

    monkeypatch.setattr(lm, "prefill", noted)
    return begun


def greedy_tokens(engine: Engine) -> list[tuple[int, ...]]:
    """The first ones after ten prompts."""
    greedy = Sampling(temperature=0, min_tokens=4)
    requests = [request(engine, 15 + n, 4) for n in range(10)]
    return tokens_of(engine._scheduler.submit(requests, grammar_of(engine), greedy))


def captured(engine: Engine) -> list[Graph]:
    """All graphs of the language model."""
    graphs = engine._scheduler._batch._graphs
    assert graphs is not None
    steps = [graph for graph, _tokens in graphs._steps.values()]
    return [*steps, *engine._lm._captured.values()]


def idle(engine: Engine) -> bool:
    return occupancy(engine._scheduler) == (0, 0) and not engine._scheduler._unread


# Steps


def test_a_step_of_speech_is_replayed_and_waits_for_nothing(
    fused: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]]
) -> None:
    gpu, engine = fused
    default = gpu._streams[0].count
    rows, graphs = steps(gpu), captured(engine)
    before = sum(graph.replayed for graph in graphs)
    spoken = list(engine.speak(TEXTS, engine._prompter.some_voice(), HOW))
    assert all(len(one.semantic_tokens) >= 8 for one in spoken)
    assert max(rows) == 2
    # One for each step, which feeds and draws; and one for the prompts, read together.
    assert sum(graph.replayed for graph in graphs) - before == len(rows) + 1
    assert gpu._streams[0].count == default


def test_a_row_is_to_the_bit_what_it_is_alone_whoever_comes_and_goes(
    fused: tuple[Gpu, Engine], parts: list[int], steps: Callable[[Gpu], list[int]]
) -> None:
    """Prompts are read in parts beside rows that run, and draws of every kind share the steps."""
    gpu, engine = fused
    lengths, limits = (20, 150, 90, 33), (60, 12, 30, 21)
    requests = [request(engine, *pair) for pair in zip(lengths, limits, strict=True)]
    expected = alone(engine, requests, KINDS)
    assert set(parts) == {0}  # one that is alone is read at once
    rows = steps(gpu)
    scheduler, grammar = engine._scheduler, grammar_of(engine)
    asked = scheduler.submit(requests[:1], grammar, KINDS[0])
    until(lambda: len(asked[0].tokens) > 3)
    for one, how in zip(requests[1:], KINDS[1:], strict=True):
        asked += scheduler.submit([one], grammar, how, job=one)
    assert tokens_of(asked) == expected
    assert any(parts)
    assert max(rows) == 4


def test_captured_steps_and_prompts_give_what_the_same_give_as_they_are_written(
    fused: tuple[Gpu, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, engine = fused
    requests = [request(engine, length, 12) for length in (20, 70)]

    def both() -> list[tuple[int, ...]]:
        return tokens_of(engine._scheduler.submit(requests, grammar_of(engine), HOW))

    replayed = both()
    until(lambda: idle(engine))
    monkeypatch.setattr(engine._scheduler._batch, "_graphs", None)
    monkeypatch.setattr(engine._lm, "_captured", {})
    before = replays(gpu)
    assert both() == replayed
    assert replays(gpu) == before


def test_a_voice_that_is_designed_beside_speech_makes_no_step_wait(
    fused: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]]
) -> None:
    """Its draws are of other heads, and none of them is captured."""
    gpu, engine = fused
    designed = engine.design(STYLE, TEXTS[0], HOW)
    assert engine.why_unusable(designed.voice) is None
    rows = steps(gpu)
    how = Sampling(max_tokens=150, min_tokens=150, seed=1)
    with ThreadPoolExecutor(1) as threads:
        speech = threads.submit(lambda: list(engine.speak(TEXTS[:1], designed.voice, how)))
        until(lambda: bool(rows))
        assert engine.design(STYLE, TEXTS[0], HOW) == designed
        speech.result()
    assert max(rows) == 2


def test_greedy_tokens_are_mostly_those_of_torchs_kernels(
    torchs: list[tuple[int, ...]], fused: tuple[Gpu, Engine]
) -> None:
    _gpu, engine = fused
    assert type(engine._scheduler._batch) is FusedBatch
    same = sum(a == b for a, b in zip(greedy_tokens(engine), torchs, strict=True))
    assert same >= 7


# Rows that fail, leave or lose their places


def test_a_row_without_numbers_fails_alone_and_nothing_of_it_stays(
    fused: tuple[Gpu, Engine],
) -> None:
    _gpu, engine = fused
    scheduler, grammar = engine._scheduler, grammar_of(engine)
    how = Sampling(min_tokens=60, seed=9)
    requests = [request(engine, length, 60) for length in (30, 40, 50)]
    expected = alone(engine, requests, [how] * 3)
    asked = scheduler.submit(requests, grammar, how)
    poison(engine, asked[1])
    with pytest.raises(SynthesisError, match="no numbers"):
        asked[1].answer()
    again = scheduler.submit([requests[1]], grammar, how)
    assert tokens_of([asked[0], asked[2], *again]) == [expected[0], expected[2], expected[1]]


def test_what_a_page_held_before_reaches_nobody(fused: tuple[Gpu, Engine]) -> None:
    """So that nothing has to be scrubbed after a row without numbers."""
    _gpu, engine = fused
    requests = [request(engine, length, 40) for length in (20, 50)]

    def both() -> list[tuple[int, ...]]:
        return tokens_of(engine._scheduler.submit(requests, grammar_of(engine), HOW))

    expected = both()
    until(lambda: idle(engine))
    cache = engine._scheduler._batch.cache
    assert isinstance(cache, PagedCache)
    with torch.inference_mode(), its_stream(engine):
        cache.pages.fill_(float("nan"))
    assert both() == expected


def test_one_that_is_given_up_while_its_prompt_is_read_leaves_its_pages(
    fused: tuple[Gpu, Engine], parts: list[int]
) -> None:
    _gpu, engine = fused
    scheduler, grammar = engine._scheduler, grammar_of(engine)
    how = Sampling(min_tokens=100, seed=2)
    until(lambda: idle(engine))
    free = scheduler._batch.cache.free
    requests = [request(engine, 20, 80), request(engine, 250, 10)]
    expected = alone(engine, requests[:1], [how])
    asked = scheduler.submit(requests[:1], grammar, how)
    until(lambda: len(asked[0].tokens) > 3)
    asked += scheduler.submit(requests[1:], grammar, how)
    until(lambda: any(parts))
    scheduler.cancel(asked[1])
    with pytest.raises(JobCancelledError):
        asked[1].answer()
    assert tokens_of(asked[:1]) == expected
    assert max(parts) < 250 - 64
    until(lambda: idle(engine))
    assert scheduler._batch.cache.free == free
