"""The one place of the check that reaches into the engine's insides.

All of it runs in the caller's thread, on the rows of a scheduler that must be idle meanwhile; only
`poison` is for a scheduler at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support.toy_decoder import EVERYTHING, VOCABULARY, ToyDecoder
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.fused_batch import FusedBatch
from worker.speech.batch.output_head import OutputHead
from worker.speech.batch.sampling import ALL, BatchSampling, Sampling, draw
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest, TokenSequence
from worker.speech.device import on
from worker.speech.engine import Engine
from worker.speech.grammar import Grammar
from worker.speech.lm.attention import (
    Attend,
    AttentionInputs,
    _flash_attention,
    causal_inputs,
    torch_attention,
)
from worker.speech.lm.paged_cache import PagedCache
from worker.speech.voice import Voice

ROOM = 64  # positions that a row has beyond where it is put
PROMPT = 40  # tokens of the rows that `begin` makes, and up to 4 more


def slots(engine: Engine) -> int:
    """Rows that run at once."""
    return engine.slots


def its_stream(engine: Engine) -> AbstractContextManager[object]:
    """Where the language model works: what reads the tokens of steps must be there too."""
    return on(engine._scheduler._stream)


def main_head(engine: Engine) -> OutputHead:
    """That of speech, which captured steps draw from."""
    scheduler = engine._scheduler
    assert scheduler._captured is not None
    return scheduler._heads.get(scheduler._captured.allowed[-1], scheduler._captured.end)


# Captured steps


def captured(engine: Engine) -> dict[str, Callable[[], object]]:
    """The replay of each captured step, by "rows x positions in sight"."""
    graphs = _rows(engine)._graphs
    if graphs is None:
        return {}
    return {
        f"{size} x {sight}": partial(_step, engine, size, graph)
        for (size, sight), (graph, _tokens) in graphs._steps.items()
    }


def _step(engine: Engine, rows: int, graph: torch.cuda.CUDAGraph) -> None:
    with its_stream(engine):
        tell(engine, rows)
        graph.replay()


def captured_sizes(engine: Engine) -> list[int]:
    """Numbers of rows of which steps are captured, each just as it is."""
    graphs = _rows(engine)._graphs
    return [] if graphs is None else sorted({size for size, _sight in graphs._steps})


def capture_again(engine: Engine) -> None:
    """All steps; what was captured before is let go afterwards."""
    with torch.inference_mode(), its_stream(engine):
        _rows(engine).capture(main_head(engine))


@contextmanager
def slots_instead(engine: Engine, slots: int) -> Iterator[None]:
    """Steps of so many slots in the place of the engine's own, which are captured anew after."""
    own = engine._scheduler
    few = Scheduler(engine._lm, slots, own.positions)
    few._heads, few._captured = own._heads, own._captured
    engine._scheduler = few
    try:
        capture_again(engine)
        yield
    finally:
        engine._scheduler = own
        capture_again(engine)


def replay(engine: Engine, count: int, length: int) -> Tensor:
    """One step as the worker takes it, captured where it can be: the tokens [count]."""
    rows, head = _rows(engine), main_head(engine)
    with its_stream(engine):
        captured = rows.draws_captured(head, max(rows._most[:count]))
        hidden = rows.advance(count, length, range(count) if captured else ())
        return rows.captured_draw.clone() if captured else rows.draw(hidden, slice(0, count), head)


def as_written(engine: Engine, count: int, length: int) -> Tensor:
    """The same step, never captured."""
    rows = _rows(engine)
    with its_stream(engine):
        tell(engine, count)
        return rows.draw(rows._feed(count, length), slice(0, count), main_head(engine))


def draws_as_torch(engine: Engine, how: Sampling) -> float | None:
    """Of the tokens drawn from random states, the share that torch draws too; None if it does all.

    Both draw from the same logits: they may differ where a number rounds to the other side.
    """
    rows, head, count = _rows(engine), main_head(engine), min(64, slots(engine))
    if not isinstance(rows, FusedBatch):
        return None
    with torch.inference_mode(), its_stream(engine):
        states = torch.randn(count, engine._lm.config.hidden_size).to(rows.ids.device)
        states = states.to(engine._lm.dtype)
        for place in range(count):
            rows.set(place, f"row {place}", 2, 1, 0, 0, how)
        sampling = BatchSampling(
            rows.temperature[:count], rows.top_k[:count], rows.top_p[:count], ALL
        )
        theirs = head.ids[draw(head.logits(states), sampling, rows.uniforms[:count, 0])]
        mine = rows.draw(states, slice(0, count), head)
        return round(float((mine == theirs).float().mean()), 4)


# Rows


def begin(
    engine: Engine, prompts: Sequence[Sequence[int]], how: Sequence[Sampling], limit: int
) -> None:
    """Rows from place 0 on that have their prompt and their first token; none will end."""
    rows = _rows(engine)
    with its_stream(engine):
        for place, prompt in enumerate(prompts):
            rows.cache.release(place)
            rows.cache.reserve(place, len(prompt) + limit)
        rows.cache.flush()
        hidden = prefill(engine, prompts)
        for place, (prompt, sampling) in enumerate(zip(prompts, how, strict=True)):
            rows.set(place, f"row {place}", limit, len(prompt), 0, 1 << 20, sampling)
            rows.draw(hidden[place : place + 1], slice(place, place + 1), main_head(engine))


def prefill(engine: Engine, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Prompts into the places from 0 on: the hidden states [n, D] after them."""
    cache = _rows(engine).cache
    with its_stream(engine):
        for place, prompt in enumerate(prompts):
            cache.reserve(place, len(prompt) + 1)
        cache.flush()
        return engine._lm.prefill(prompts, cache.rows(0, len(prompts)))


def tell(engine: Engine, count: int) -> None:
    """Let the device know how many rows run, where a batch does."""
    rows = _rows(engine)
    if isinstance(rows, FusedBatch):
        rows.tell(count)


def put_at(engine: Engine, position: int) -> None:
    """All rows at this position, whatever is there; with room for some more."""
    rows = _rows(engine)
    with its_stream(engine):
        for place in range(slots(engine)):
            rows.cache.reserve(place, min(position + ROOM, rows.positions))
        rows.cache.flush()
        rows.at.fill_(position)


def submit(
    engine: Engine, texts: Sequence[str], voice: Voice, how: Sampling
) -> list[TokenSequence]:
    """A row for each text, all at once."""
    prompter = engine._prompter
    rows = [
        SequenceRequest(prompter.speech_prompt(text, voice), f"sentence {i}", how.max_tokens)
        for i, text in enumerate(texts)
    ]
    return engine._scheduler.submit(rows, prompter.speech_grammar(voice), how)


def stream_alone(engine: Engine, voice: Voice, codes: Sequence[int]) -> NDArray[np.float32]:
    """The samples of codes as a stream gives them, where nothing else runs."""
    work = partial(engine._codec.decode, voice.global_tokens, codes, eager=True)
    return engine._runner.decode(work)


def codec_runs(engine: Engine) -> dict[str, Callable[[], object]]:
    """Each captured run of the codec's networks, by the network and the tokens that it holds."""
    batch = getattr(engine._codec, "_batch", None)
    if batch is None:
        return {}
    return {
        f"{name} of {length}": partial(batch._lane.do, partial(graphs.run, length))
        for name, graphs in (("prenet", batch._prenet), ("wave generator", batch._wave))
        for length in graphs._lengths
    }


def poison(engine: Engine, asked: TokenSequence, patience: float = 10) -> None:
    """Make the keys of a running row's first position NaN: its next logits are.

    Raises RuntimeError where the row does not run within `patience` seconds.
    """
    scheduler = engine._scheduler
    until = time.perf_counter() + patience
    while asked not in (running := list(scheduler._running)):
        if time.perf_counter() > until or asked.done:
            raise RuntimeError("the row never ran")
        time.sleep(1e-4)
    place = running.index(asked)  # for as long as no row before it leaves
    with torch.inference_mode(), its_stream(engine):
        cache = _rows(engine).cache
        if isinstance(cache, PagedCache):
            cache.pages[:, cache.table[place, :1].long(), 0, :, 0] = float("nan")
        else:
            cache.keys[:, place, 0] = float("nan")


def _rows(engine: Engine) -> DeviceBatch:
    scheduler: Scheduler = engine._scheduler
    return scheduler._batch


# The host


class _Still:
    """In place of captured steps: nothing is computed, and each row draws the same token."""

    def __init__(self, rows: int) -> None:
        self._tokens = torch.ones(rows, dtype=torch.long)

    def step(self, count: int, _length: int) -> Tensor:
        return self._tokens[:count]


def still_scheduler(rows: int, most: int) -> Callable[[int], float]:
    """A scheduler on the CPU whose captured steps do nothing.

    Called with a number of tokens up to `most`, it gives the seconds that so many of each row took.
    """
    grammar = Grammar((EVERYTHING,), end=0)
    scheduler = Scheduler(ToyDecoder(), rows)
    scheduler.prepare(grammar)
    batch = scheduler._batch
    batch._graphs = _Still(rows)  # type: ignore[assignment]  # in place of graphs
    batch._hidden = torch.zeros(rows, VOCABULARY)
    batch._captured = scheduler._heads.get(EVERYTHING, 0)

    def run(tokens: int) -> float:
        if tokens > most:
            raise ValueError(f"{tokens} tokens are more than {most}")
        requests = [SequenceRequest((3,) * PROMPT, f"row {i}", tokens) for i in range(rows)]
        begun = time.perf_counter()
        for sequence in scheduler.submit(requests, grammar, Sampling(min_tokens=tokens)):
            if len(sequence.answer().tokens) != tokens:
                raise RuntimeError("a row has ended early")
        return time.perf_counter() - begun

    return run


@contextmanager
def waits_for_device() -> Iterator[list[float]]:
    """Seconds of each wait for a step's tokens within the block."""
    waited: list[float] = []
    plain = torch.cuda.Event.synchronize  # replaced within the block: it is where a step waits

    def timed(event: torch.cuda.Event) -> None:
        begun = time.perf_counter()
        plain(event)
        waited.append(time.perf_counter() - begun)

    torch.cuda.Event.synchronize = timed  # type: ignore[method-assign]  # on purpose
    try:
        yield waited
    finally:
        torch.cuda.Event.synchronize = plain  # type: ignore[method-assign]  # as it was


# Attention


@dataclass(frozen=True)
class Attentions:
    """flash-attn's way and torch's."""

    flash: Attend
    plain: Attend

    @staticmethod
    def inputs(positions: Tensor, length: int) -> AttentionInputs:
        """What both are told of new tokens at these positions [B, S]."""
        return causal_inputs(positions, length, torch.bfloat16)


def flash_version() -> str | None:
    """Of the flash-attn that is installed."""
    if find_spec("flash_attn") is None:
        return None
    try:
        return version("flash-attn")
    except PackageNotFoundError:
        return "unknown"


def attentions(device: str) -> Attentions | None:
    """None where flash-attn is not, or cannot run."""
    if device != "cuda" or flash_version() is None:
        return None
    return Attentions(_flash_attention(), torch_attention)
