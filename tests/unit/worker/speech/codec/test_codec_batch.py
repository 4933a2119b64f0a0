"""Chunks of many sentences in one run: each has the samples that it has alone, or fails alone."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.codec_parts import HOP, random_batch, random_bicodec, random_tokens, whole
from tests.support.events import Events
from tests.support.waiting import until
from worker.speech.codec import codec_batch
from worker.speech.codec.chunked_network import ChunkedNetwork, context_of
from worker.speech.codec.codec_batch import BatchedSentence, CodecBatch
from worker.speech.codec.eager_stream import EagerStream
from worker.speech.codec.packing import Chunk, Layout
from worker.speech.codec.speech_stream import SpeechStream, WholeStream

UPSTREAM = random_bicodec()
RATE = 50 * HOP  # samples a second
CONTEXT = context_of(UPSTREAM.prenet) + context_of(UPSTREAM.decoder)
CLOSE = 1e-5  # of full scale


@pytest.fixture
def batch() -> Iterator[CodecBatch]:
    with torch.backends.mkldnn.flags(enabled=False):
        yield random_batch(random_bicodec())


@pytest.fixture
def runs(batch: CodecBatch, monkeypatch: pytest.MonkeyPatch) -> list[Layout]:
    """Each run that the batch makes, as it begins."""
    made: list[Layout] = []
    compute = batch._compute

    def noted(layout: Layout) -> list[np.ndarray]:
        made.append(layout)
        return compute(layout)

    monkeypatch.setattr(batch, "_compute", noted)
    return made


def chunk(
    count: int,
    kept: slice | None = None,
    due: float = math.inf,
    *,
    first: bool = False,
    seed: int = 0,
) -> Chunk:
    voice, codes = random_tokens(count, seed)
    return Chunk(voice, np.array(codes), kept or slice(0, count), due, first)


def alone(one: Chunk) -> np.ndarray:
    samples = whole(UPSTREAM, one.voice, tuple(one.codes.tolist()))
    return samples[HOP * one.kept.start : HOP * one.kept.stop]


@contextmanager
def together(batch: CodecBatch, chunks: list[Chunk]) -> Iterator[list[Future[np.ndarray]]]:
    """Ask for all of them, in this order, before the batch looks at any."""
    free = threading.Event()
    batch._lane.start(free.wait)
    with ThreadPoolExecutor(len(chunks)) as threads:
        asked = []
        for count, one in enumerate(chunks, 1):
            asked.append(threads.submit(batch.run, one))
            until(lambda count=count: len(batch._waiting) == count)
        free.set()
        yield asked


def same(asked: Future[np.ndarray], one: Chunk) -> bool:
    made, expected = asked.result(20), alone(one)
    return made.shape == expected.shape and bool(np.abs(made - expected).max() < CLOSE)


# What a chunk gives


@pytest.mark.parametrize("count", [1, 5, 32, 33, 96, 200])
def test_a_whole_sentence_is_upstreams(batch: CodecBatch, count: int) -> None:
    one = chunk(count)
    expected = alone(one)
    assert np.abs(expected).max() > 0.1  # biases and snakes are heard
    assert np.abs(batch.run(one) - expected).max() < CLOSE


def test_what_is_kept_of_a_chunk_is_upstreams(batch: CodecBatch) -> None:
    """At its begin, at its end, and within, a context from what is not there."""
    for kept in (slice(0, 20), slice(CONTEXT, CONTEXT + 7), slice(90, 96), slice(40, 41)):
        one = chunk(96, kept)
        assert np.abs(batch.run(one) - alone(one)).max() < CLOSE


def test_many_chunks_in_one_run_give_what_each_gives_alone(
    batch: CodecBatch, runs: list[Layout]
) -> None:
    """Of several voices and lengths; none sees its neighbours."""
    chunks = [chunk(30 + 7 * i, slice(i, 25), seed=i) for i in range(6)] + [chunk(1), chunk(2)]
    with together(batch, chunks) as asked:
        assert all(same(*pair) for pair in zip(asked, chunks, strict=True))
    assert len(runs) == 1
    assert len(runs[0].places) == len(chunks)


def test_what_a_run_left_behind_does_not_reach_the_next(batch: CodecBatch) -> None:
    batch.run(chunk(96, seed=1))
    one = chunk(7, seed=2)
    assert np.abs(batch.run(one) - alone(one)).max() < CLOSE


def test_samples_are_the_askers_own(batch: CodecBatch) -> None:
    one = chunk(9)
    first = batch.run(one)
    kept = first.copy()
    batch.run(chunk(20, seed=1))
    assert (first == kept).all()


def test_a_chunk_that_no_run_holds_is_refused(batch: CodecBatch) -> None:
    with pytest.raises(ValueError, match="a chunk of 1025 tokens is longer than any run"):
        batch.run(chunk(1025))
    assert batch._waiting == []


# Sentences


def sentence(
    batch: CodecBatch, voice: tuple[int, ...], *, eager: bool, look_ahead: int = CONTEXT
) -> SpeechStream:
    network = BatchedSentence(batch, voice, RATE, eager=eager)
    stage = ChunkedNetwork(network, HOP, CONTEXT, 128)
    if eager:
        return EagerStream(lambda: stage, 96, look_ahead, HOP)
    return WholeStream(lambda codes: torch.tensor([[list(codes)]]), lambda: (stage,), 96)


def fed(batch: CodecBatch, number: int, *, eager: bool) -> tuple[np.ndarray, np.ndarray]:
    """A sentence in pieces, and as upstream has it."""
    voice, codes = random_tokens(90 + 40 * number, number)
    stream = sentence(batch, voice, eager=eager)
    step = 10 + number
    parts = [stream.feed(codes[i : i + step]) for i in range(0, len(codes), step)]
    return np.concatenate([*parts, stream.feed((), last=True)]), whole(UPSTREAM, voice, codes)


def test_sentences_at_once_are_each_what_they_are_alone(
    batch: CodecBatch, runs: list[Layout]
) -> None:
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(fed, batch, i // 2, eager=bool(i % 2)) for i in range(8)]
        for one in asked:
            made, expected = one.result(60)
            assert made.shape == expected.shape
            assert np.abs(made - expected).max() < CLOSE
    assert max(len(run.places) for run in runs) > 1


def test_a_listeners_first_chunk_is_told_from_the_rest(
    batch: CodecBatch, runs: list[Layout]
) -> None:
    fed(batch, 3, eager=True)
    first = [place.chunk.first for run in runs for place in run.places]
    assert first == [True] + [False] * (len(first) - 1)
    assert len(first) > 2
    runs.clear()
    fed(batch, 3, eager=False)
    assert not any(place.chunk.first for run in runs for place in run.places)


# Who goes first


def test_whose_audio_runs_out_goes_before_who_hears_nothing_yet(
    batch: CodecBatch, runs: list[Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(codec_batch.time, "perf_counter", lambda: clock[0])
    voice, codes = random_tokens(500, 1)
    tokens = torch.tensor(codes)[None, None]
    asked: list[float] = []

    def due(sentence: BatchedSentence, kept: int) -> float:
        runs.clear()
        sentence(tokens[..., : kept + 9], slice(0, kept))
        asked.append(runs[0].places[0].chunk.due)
        return asked[-1]

    second = RATE // HOP  # tokens
    playing, new = (BatchedSentence(batch, voice, RATE, eager=True) for _ in range(2))
    whole_one = BatchedSentence(batch, voice, RATE, eager=False)
    assert due(playing, second) == 100 + codec_batch.FIRST_DUE
    assert due(playing, second) == pytest.approx(101 - codec_batch.AHEAD)  # one second is there
    clock[0] = 101.99  # and another one came, which is about to end
    assert due(playing, 1) < due(new, 1)
    clock[0] = 110.0  # after a gap a player goes on from where it is
    due(playing, second)
    assert due(playing, 1) == pytest.approx(111 - codec_batch.AHEAD)
    assert due(whole_one, 1) == float("inf")


def test_what_is_due_first_goes_first_and_what_is_never_due_behind_it_in_turn(
    batch: CodecBatch, runs: list[Layout]
) -> None:
    due = [math.inf, 3.0, 1.0, math.inf, 2.0, 4.0]
    chunks = [chunk(500, slice(0, 40), when, seed=seed) for seed, when in enumerate(due)]
    with together(batch, chunks) as asked:
        assert all(same(*pair) for pair in zip(asked, chunks, strict=True))
    begun = [chunks.index(place.chunk) for run in runs for place in run.places]
    assert begun == [2, 4, 1, 5, 0, 3]
    assert [len(run.places) for run in runs] == [2, 2, 2]


def test_each_asker_is_answered_though_others_go_before(batch: CodecBatch) -> None:
    """As many calls as chunks, whoever of them is served by which."""
    with ThreadPoolExecutor(12) as threads:
        chunks = [chunk(5, due=i % 3, first=i % 3 == 0) for i in range(60)]
        asked = [threads.submit(batch.run, one) for one in chunks]
        assert all(len(one.result(20)) == 5 * HOP for one in asked)
    assert batch._waiting == []


# Failures


class BrokenError(RuntimeError):
    """No error of the memory or the device."""


def breaks(batch: CodecBatch, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    """A run that has the token 95 anywhere fails."""
    work = batch._prenet._work

    def failing(length: int) -> torch.Tensor:
        there = batch._numbers.owners[:length] >= 0
        if (batch._numbers.codes[:length][there] == 95).any():
            raise error()
        return work(length)

    monkeypatch.setattr(batch._prenet, "_work", failing)


def without(token: int, count: int, seed: int) -> Chunk:
    one = chunk(count, seed=seed)
    one.codes[one.codes == token] = 1
    return one


@pytest.mark.parametrize("error", [BrokenError, torch.OutOfMemoryError, MemoryError])
def test_a_chunk_that_fails_fails_alone(
    batch: CodecBatch, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    breaks(batch, monkeypatch, error)
    chunks = [without(95, 20 + i, i) for i in range(4)]
    chunks[1].codes[7] = 95
    with together(batch, chunks) as asked:
        for number, one in enumerate(asked):
            if number == 1:
                with pytest.raises(error):
                    one.result(20)
            else:
                assert same(one, chunks[number])
    assert len(batch.run(chunks[0])) == 20 * HOP


def test_a_broken_device_fails_all_that_were_in_the_run_at_once(
    batch: CodecBatch, monkeypatch: pytest.MonkeyPatch, runs: list[Layout]
) -> None:
    breaks(batch, monkeypatch, lambda: RuntimeError("CUDA error: an illegal memory access"))
    chunks = [without(95, 20 + i, i) for i in range(3)]
    chunks[1].codes[7] = 95
    with together(batch, chunks) as asked:
        for one in asked:
            with pytest.raises(RuntimeError, match="illegal"):
                one.result(20)
    assert len(runs) == 1


def test_where_memory_is_short_a_run_becomes_single_ones(
    batch: CodecBatch, monkeypatch: pytest.MonkeyPatch, runs: list[Layout]
) -> None:
    work = batch._wave._work

    def small(length: int) -> torch.Tensor:
        if length > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(length)

    monkeypatch.setattr(batch._wave, "_work", small)
    chunks = [chunk(20, seed=i) for i in range(3)]
    with together(batch, chunks) as asked:
        assert all(same(*pair) for pair in zip(asked, chunks, strict=True))
    assert [len(run.places) for run in runs] == [3, 1, 1, 1]


def test_where_memory_is_short_for_one_its_sentence_goes_on_in_shorter_chunks(
    batch: CodecBatch, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    work = batch._prenet._work

    def small(length: int) -> torch.Tensor:
        if length > 96:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(length)

    monkeypatch.setattr(batch._prenet, "_work", small)
    made, expected = fed(batch, 2, eager=False)
    assert np.abs(made - expected).max() < CLOSE
    assert events() == [("audio is made in shorter chunks", {"tokens": 2 * CONTEXT + 1})]


def test_a_stream_whose_chunk_failed_goes_on_where_it_was(
    batch: CodecBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice, codes = random_tokens(150, 4)
    codes = tuple(code % 95 for code in codes)
    stream = sentence(batch, voice, eager=True)
    parts = [stream.feed(codes[:100])]
    with monkeypatch.context() as patched:
        breaks(batch, patched, BrokenError)
        with pytest.raises(BrokenError):
            stream.feed((*codes[100:140], 95), last=True)
    parts.append(stream.feed(codes[100:], last=True))
    assert np.abs(np.concatenate(parts) - whole(UPSTREAM, voice, codes)).max() < CLOSE
