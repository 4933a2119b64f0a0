"""The worker's way of speech on a GPU, run dry: prompts, steps of every kind, the codec, listening.

tests/support/dry_gpu says what that can and cannot see; tests/unit/support/test_dry_gpu.py, that it
does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from bench.gpu import steps as steps_of_the_check
from tests.support.dry_gpu.engine import loaded, replays
from tests.support.dry_gpu.streams import Gpu, SynchronisedError
from tests.support.scheduling import occupancy
from tests.support.waiting import until
from worker.speech.batch import sampling
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.lm import attention, rotary, torch_model
from worker.speech.lm.paged_cache import PAGE, PagedCache
from worker.speech.voice import Style

TEXTS = ["The boy walked to the river.", "It was cold."]
HOW = Sampling(max_tokens=14, min_tokens=8, seed=3)
STYLE = Style("female", "moderate", "high")


@pytest.fixture(scope="module", params=[True, False], ids=["flash-attn", "torch's attention"])
def fast(checkpoint: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Gpu, Engine]]:
    """In bfloat16, as production runs."""
    with loaded(checkpoint, "bfloat16", flash=request.param) as found:
        yield found


def test_a_step_of_speech_is_replayed_and_waits_for_nothing(
    fast: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]]
) -> None:
    gpu, engine = fast
    before, rows = replays(gpu), steps(gpu)
    spoken = list(engine.speak(TEXTS, engine._prompter.some_voice(), HOW))
    assert all(len(one.semantic_tokens) >= 8 for one in spoken)
    assert max(rows) == 2
    assert replays(gpu) > before


@pytest.mark.parametrize("top_k", [0, 100])
def test_a_wide_top_k_waits_for_nothing(
    fast: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]], top_k: int
) -> None:
    gpu, engine = fast
    steps(gpu)
    how = Sampling(max_tokens=8, min_tokens=8, top_k=top_k)
    assert list(engine.speak(TEXTS, engine._prompter.some_voice(), how))


def test_a_voice_is_designed_without_waiting_between_its_steps(
    fast: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]]
) -> None:
    gpu, engine = fast
    engine.design(STYLE, TEXTS[0], HOW)  # a head is cut when it is first needed
    rows = steps(gpu)
    designed = engine.design(STYLE, TEXTS[0], HOW)
    assert rows
    assert engine.why_unusable(designed.voice) is None
    assert list(engine.speak(TEXTS, designed.voice, HOW))


def test_a_voice_that_is_designed_beside_speech_makes_no_step_wait(
    fast: tuple[Gpu, Engine], steps: Callable[[Gpu], list[int]]
) -> None:
    gpu, engine = fast
    engine.design(STYLE, TEXTS[0], HOW)
    rows = steps(gpu)
    how = Sampling(max_tokens=200, min_tokens=200)
    with ThreadPoolExecutor(1) as threads:
        voice = engine._prompter.some_voice()
        speech = threads.submit(lambda: list(engine.speak(TEXTS[:1], voice, how)))
        until(lambda: bool(rows))
        engine.design(STYLE, TEXTS[1], HOW)
        speech.result()
    assert max(rows) == 2


def test_prompts_wait_for_nothing_but_their_tokens(fast: tuple[Gpu, Engine]) -> None:
    gpu, engine = fast
    lm = engine._lm
    layers = lm.layers[0].forward
    waits: list[int] = []

    def guarded(*args: Any) -> Tensor:
        waits.append(len(gpu.waits))
        with gpu.unsynchronised():
            return layers(*args)

    lm.layers[0].forward = guarded
    try:
        with torch.inference_mode():
            hidden = lm.prefill([[5, 6, 7], [8, 9]], lm.new_cache(2, 16))
    finally:
        del lm.layers[0].forward
    assert hidden.shape == (2, lm.config.hidden_size)
    assert len(gpu.waits) == waits[0]  # none after the first layer


def test_a_table_of_pages_is_sent_without_waiting(fast: tuple[Gpu, Engine]) -> None:
    gpu, engine = fast
    cache = PagedCache(engine._lm.config, 3, 3 * PAGE, 9, torch.device("cuda"))
    with torch.inference_mode(), gpu.unsynchronised():
        cache.reserve(2, PAGE + 1)
        cache.flush()
        cache.copy(2, 0, PAGE)
        cache.reserve(1, 1)
        cache.flush()
    assert cache.table.device.type == cache.pages.device.type == "cuda"
    assert cache.table.cpu().tolist() == [[1, 2, 0], [3, 0, 0], [0, 0, 0]]


def test_the_codec_waits_for_its_samples_alone(fast: tuple[Gpu, Engine], on_cpu: Engine) -> None:
    gpu, engine = fast
    codec = engine._codec
    assert codec.dtype == torch.bfloat16
    codes = tuple(i % 96 for i in range(600))  # more than one chunk
    voice = (1, 2, 3, 4, 5)
    waits, before = len(gpu.waits), replays(gpu)
    mine = codec.decode(voice, codes)
    assert [why.split(" (")[0] for why in gpu.waits[waits:]] == ["an event's synchronize()"] * 2
    assert replays(gpu) == before + 4  # of the prenet and of the wave generator, for each chunk
    exactly = on_cpu._codec.decode(voice, codes)
    assert np.square(mine - exactly).mean() < 1e-4 * np.square(exactly).mean()  # 40 dB


def test_sentences_share_the_codecs_runs(fast: tuple[Gpu, Engine], on_cpu: Engine) -> None:
    gpu, engine = fast
    sentences = [((1, 2, 3, 4, i), tuple(range(20 + i))) for i in range(8)]
    before, free = replays(gpu), threading.Event()
    engine._codec._batch._lane.start(free.wait)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(engine._codec.decode, *one, eager=True) for one in sentences]
        until(lambda: len(engine._codec._batch._waiting) == 8)
        free.set()
        made = [one.result(20) for one in asked]
    assert replays(gpu) == before + 2
    for mine, one in zip(made, sentences, strict=True):
        exactly = on_cpu._codec.decode(*one)
        assert np.square(mine - exactly).mean() < 1e-4 * np.square(exactly).mean()


def test_streamed_speech_stays_on_the_codecs_stream(fast: tuple[Gpu, Engine]) -> None:
    _gpu, engine = fast
    pieces = engine.stream(TEXTS, engine._prompter.some_voice(), HOW)
    assert any(piece.utterance for piece in pieces)  # the first sentence
    # Nobody waits any more for what the language model's stream does.
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    assert [piece.sentence for piece in pieces if piece.utterance] == [1]


# Faults in the worker itself, planted: each is told of, and speech fails.


def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of the step is made without a device."""
    draw = sampling.candidates

    def candidates(logits: Tensor, how: Any) -> tuple[Tensor, Tensor]:
        return draw(logits + torch.zeros(logits.shape), how)

    monkeypatch.setattr(sampling, "candidates", candidates)


def read_in_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer asks how long the rows are."""
    rotate = rotary.rotate

    def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rotate(x, cos, sin) if float(cos.abs().max()) < 2 else x

    monkeypatch.setattr(torch_model, "rotate", rotated)


def long_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """flash-attn is told lengths of 64 bits."""
    causal_inputs = attention.causal_inputs

    def changed(positions: Tensor, *more: Any, **options: Any) -> attention.AttentionInputs:
        return replace(causal_inputs(positions, *more, **options), before=positions[:, 0])

    monkeypatch.setattr(torch_model, "causal_inputs", changed)


@pytest.mark.parametrize(
    ("plant", "error", "said"),
    [
        (on_the_host, RuntimeError, "same device"),
        (read_in_the_step, SynchronisedError, "captured"),
        (long_lengths, AssertionError, "int32"),
    ],
)
def test_a_fault_in_a_step_is_found_when_it_is_captured(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    error: type[Exception],
    said: str,
) -> None:
    plant(monkeypatch)
    with pytest.raises(error, match=said), loaded(checkpoint, "bfloat16", flash=True):
        pass


def test_the_check_reads_tokens_once_they_are_there(fast: tuple[Gpu, Engine]) -> None:
    """What `make gpu-check` compares: captured steps, and the same as they are written."""
    _gpu, engine = fast
    how = [Sampling(seed=3), Sampling(temperature=0), Sampling(seed=4, top_k=0)]
    replayed, written = (
        steps_of_the_check.tokens(engine, how, 5, as_written=as_written)
        for as_written in (False, True)
    )
    assert replayed.shape == (5, 3)
    assert (replayed == written).all()


def test_nothing_runs_on_the_default_stream(fast: tuple[Gpu, Engine], tmp_path: Path) -> None:
    """Where the drivers would make all other streams wait for it."""
    gpu, engine = fast
    file = tmp_path / "noise.wav"
    soundfile.write(file, 0.1 * np.random.default_rng(1).standard_normal(16_000), 16_000)
    default = gpu._streams[0]
    before = default.count
    voice = engine.listen(file)
    designed = engine.design(STYLE, TEXTS[0], HOW)
    assert list(engine.speak(TEXTS, designed.voice, HOW))
    assert list(engine.stream(TEXTS, voice, HOW))
    assert default.count == before
