"""Rows of the fused model: told on the device how many there are, drawn by its own kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tests.support.cuda_on_cpu import CpuLauncher
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from tests.support.toy_decoder import ToyDecoder
from worker.speech.batch import fused_batch as module
from worker.speech.batch.device_batch import DeviceBatch, width
from worker.speech.batch.fused_batch import FusedBatch, batch_for
from worker.speech.batch.output_head import OutputHead, OutputHeads
from worker.speech.batch.sampling import Sampling
from worker.speech.lm.fused_model import FusedLanguageModel

pytestmark = pytest.mark.slow("compiles the kernels for a CPU")

CPU = torch.device("cpu")
SIZES = Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96, layers=2, positions=256)
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
HOW = [Sampling(seed=1), Sampling(seed=2, temperature=1.2, top_k=7), Sampling(seed=3, top_p=0.6)]


class Written:
    """In the place of captured graphs: runs the same work as it is written, at the whole size."""

    def __init__(
        self,
        advance: Callable[[int, int], object],
        draw: Callable[[int], Tensor],
        sizes: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        self.made = tuple(sizes), tuple(lengths)
        self._advance, self._draw, self._slots = advance, draw, sizes[-1]
        advance(self._slots, lengths[-1])
        draw(self._slots)

    def step(self, count: int, length: int) -> Tensor:
        self._advance(self._slots, length)
        return self._draw(self._slots)[:count]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FusedLanguageModel:
    folder = make_random_checkpoint(tmp_path_factory.mktemp("fused") / "model", SIZES)
    return FusedLanguageModel.load(folder / "LLM", CPU, CpuLauncher())


def begun(lm: FusedLanguageModel, how: Sequence[Sampling] = HOW) -> tuple[FusedBatch, OutputHead]:
    """A batch whose rows have read their prompts and drawn a token, at places 0 to 2 of 4."""
    head = OutputHeads(lm).get(frozenset(range(20, 90)), None)
    rows = batch_for(lm, 4, 128)
    assert isinstance(rows, FusedBatch)
    for place in range(4):
        rows.cache.reserve(place, 128)
    rows.cache.flush()
    hidden = lm.prefill(PROMPTS, rows.cache.rows(0, 3))
    for place, (prompt, one) in enumerate(zip(PROMPTS, how, strict=True)):
        rows.set(place, f"row {place}", 40, len(prompt), 0, 0, one)
        rows.draw(hidden[place : place + 1], slice(place, place + 1), head)
    return rows, head


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable[[FusedBatch, OutputHead], Written]:
    """Captures as on a GPU, which is a name here."""
    monkeypatch.setattr(module, "CudaGraphs", Written)
    monkeypatch.setattr(FusedLanguageModel, "capture", lambda _lm, _cache: None)

    def capture(rows: FusedBatch, head: OutputHead) -> Written:
        kept = [tensor.clone() for tensor in (rows.ids, rows.at, rows.drawn)]
        with monkeypatch.context() as patch:
            patch.setattr(FusedLanguageModel, "device", torch.device("cuda"))
            rows.capture(head)
        for tensor, before in zip((rows.ids, rows.at, rows.drawn), kept, strict=True):
            tensor.copy_(before)  # there are no rows yet where it is captured in earnest
        assert isinstance(rows._graphs, Written)
        return rows._graphs

    return capture


def counters(rows: DeviceBatch) -> list[list[int]]:
    return [tensor.tolist() for tensor in (rows.ids, rows.at, rows.drawn)]


def test_each_decoder_has_its_batch(lm: FusedLanguageModel) -> None:
    assert type(batch_for(lm, 2, 64)) is FusedBatch
    assert type(batch_for(ToyDecoder(), 2, 64)) is DeviceBatch


@torch.inference_mode()
def test_captured_steps_are_those_as_they_are_written(
    lm: FusedLanguageModel, captured: Callable[[FusedBatch, OutputHead], Written]
) -> None:
    plain, head = begun(lm)
    written = []
    for length in (5, 6, 7):
        hidden = plain.advance(3, length)
        written.append(plain.draw(hidden, slice(0, 3), head).tolist())
    rows, head = begun(lm)
    graphs = captured(rows, head)
    assert graphs.made == ((4,), (128,))
    assert rows.draws_captured(head, width(HOW[0], rows.widths))
    replayed = []
    for length in (5, 6, 7):
        rows.advance(3, length, range(3))
        replayed.append(rows.captured_draw.tolist())
    assert replayed == written
    assert counters(rows) == counters(plain)


@torch.inference_mode()
def test_rows_past_the_batch_are_left_alone_at_any_captured_size(
    lm: FusedLanguageModel, captured: Callable[[FusedBatch, OutputHead], Written]
) -> None:
    """Their prompts may be being read."""
    rows, head = begun(lm)
    before = rows.cache.pages.clone()
    captured(rows, head)
    assert torch.equal(rows.cache.pages[:, 1:], before[:, 1:])
    at = rows.at.tolist()
    for count in (2, 3, 1):
        rows.advance(count, 5, range(count))
        at[:count] = [position + 1 for position in at[:count]]
        assert rows.at.tolist() == at
    changed = (rows.cache.pages != before).flatten(2).any(2).any(0).nonzero()[:, 0]
    assert changed.tolist() == sorted(rows.cache.table[:3, 0].tolist())


@torch.inference_mode()
@pytest.mark.parametrize("speaking", [[0], [1, 2], []])
def test_a_captured_draw_is_that_of_the_rows_that_speak(
    lm: FusedLanguageModel,
    captured: Callable[[FusedBatch, OutputHead], Written],
    speaking: list[int],
) -> None:
    plain, head = begun(lm)
    tokens = plain.draw(plain.advance(3, 5), slice(0, 3), head).tolist()
    rows, head = begun(lm)
    captured(rows, head)
    before = counters(rows)
    rows.advance(3, 5, speaking)
    drawn = rows.captured_draw.tolist()
    for place in range(4):
        row = [counter[place] for counter in counters(rows)]
        was = [counter[place] for counter in before]
        if place in speaking:
            assert drawn[place] == tokens[place]
            assert row == [tokens[place], was[1] + 1, was[2] + 1]
        else:
            assert row == was


@torch.inference_mode()
def test_rows_of_any_top_k_are_drawn_by_one_launch(lm: FusedLanguageModel) -> None:
    launcher = lm.launcher
    assert isinstance(launcher, CpuLauncher)
    how = [HOW[0], Sampling(seed=2, top_k=0), Sampling(seed=3, top_k=66)]
    apart = []
    for place, one in enumerate(how):
        rows, head = begun(lm, [one] * 3)
        hidden = rows.advance(3, 5)[place : place + 1]
        apart.append(rows.draw(hidden, slice(place, place + 1), head).item())
    rows, head = begun(lm, how)
    hidden = rows.advance(3, 5)
    before = counters(rows)
    launcher.launched.clear()
    assert rows.draw(hidden, slice(0, 3), head).tolist() == apart
    assert launcher.launched.count("draw_all") == 1
    assert counters(rows)[0][:3] == apart
    for was, now in zip(before[1:], counters(rows)[1:], strict=True):
        assert now == [*(number + 1 for number in was[:3]), was[3]]


@torch.inference_mode()
def test_a_captured_draw_serves_any_top_k(
    lm: FusedLanguageModel, captured: Callable[[FusedBatch, OutputHead], Written]
) -> None:
    how = [HOW[0], Sampling(seed=2, top_k=0), Sampling(seed=3, top_k=66)]
    plain, head = begun(lm, how)
    written = plain.draw(plain.advance(3, 5), slice(0, 3), head).tolist()
    rows, head = begun(lm, how)
    captured(rows, head)
    assert all(rows.draws_captured(head, width(one, rows.widths)) for one in how)
    rows.advance(3, 5, range(3))
    assert rows.captured_draw.tolist() == written


@torch.inference_mode()
def test_narrow_and_wide_draws_are_alike(lm: FusedLanguageModel) -> None:
    """A row whose top_k is just too wide for the one has the other's token."""
    draws = []
    for widest in (64, 65):
        rows, head = begun(lm, [Sampling(seed=n, top_k=widest, temperature=0.3) for n in range(3)])
        draws.append(rows.draw(rows.advance(3, 5), slice(0, 3), head).tolist())
    assert draws[0] == draws[1]
