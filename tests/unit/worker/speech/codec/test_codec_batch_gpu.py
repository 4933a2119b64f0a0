"""The codec's batch on a dry GPU: what is captured, and what where memory is short for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.codec_parts import (
    VOICE_LENGTH,
    random_batch,
    random_bicodec,
    random_tokens,
    whole,
)
from tests.support.dry_gpu import dry_gpu
from tests.support.dry_gpu.engine import replays
from tests.support.dry_gpu.kernels import fused_kernels
from tests.support.dry_gpu.streams import Gpu
from tests.support.events import Events
from worker.speech.codec import codec_batch
from worker.speech.codec.chunked_network import context_of
from worker.speech.codec.codec_batch import CodecBatch
from worker.speech.codec.packing import Chunk

PRENET, WAVE = (32, 64, 128), (32, 64, 128)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    monkeypatch.setattr(codec_batch, "PRENET_LENGTHS", PRENET)
    monkeypatch.setattr(codec_batch, "WAVE_LENGTHS", WAVE)
    with dry_gpu() as found:
        yield found


@pytest.fixture
def batch(gpu: Gpu) -> CodecBatch:
    with torch.inference_mode(mode=False), torch.no_grad():
        return random_batch(random_bicodec().to("cuda"))


def is_upstreams(batch: CodecBatch, count: int) -> bool:
    voice, codes = random_tokens(count)
    made = batch.run(Chunk(voice, np.array(codes), slice(0, count)))
    return bool(np.abs(made - EXPECTED[count]).max() < 1e-5)


UPSTREAM = random_bicodec()
EXPECTED = {count: whole(UPSTREAM, *random_tokens(count)) for count in (20, 60, 100)}


def test_each_length_is_a_graph(gpu: Gpu, batch: CodecBatch) -> None:
    batch.prepare()
    assert len(gpu.graphs) == len(PRENET) + len(WAVE)
    assert all(is_upstreams(batch, count) for count in EXPECTED)
    assert replays(gpu) == 2 * len(EXPECTED)
    waits = [why.split(" (")[0] for why in gpu.waits[-len(EXPECTED) :]]
    assert waits == ["an event's synchronize()"] * len(EXPECTED)


@pytest.mark.slow("compiles C")
def test_the_snakes_kernel_runs_in_the_graphs(gpu: Gpu) -> None:
    """In bfloat16, rounded less often than by torch's operations."""
    voice, codes = random_tokens(60)
    noise = []
    for kernels in (nullcontext(), fused_kernels(gpu)):
        with kernels, torch.inference_mode(mode=False), torch.no_grad():
            bicodec = random_bicodec().to("cuda")
            bicodec.decoder.to(torch.bfloat16)
            context = context_of(bicodec.decoder)
            batch = codec_batch.open_batch(bicodec, torch.bfloat16, VOICE_LENGTH, context)
        batch.prepare()
        made = batch.run(Chunk(voice, np.array(codes), slice(0, 60)))
        noise.append(np.square(made - EXPECTED[60]).mean())
    assert noise[1] < noise[0] < 1e-3 * np.square(EXPECTED[60]).mean()


def test_it_runs_as_it_is_written_where_nothing_was_captured(gpu: Gpu, batch: CodecBatch) -> None:
    assert all(is_upstreams(batch, count) for count in EXPECTED)
    assert gpu.graphs == []


class Room:
    """A network that has memory for so many positions, or fails otherwise."""

    def __init__(self, work: Any, most: int, error: Exception) -> None:
        self.work, self.most, self.error = work, most, error

    def __call__(self, length: int) -> torch.Tensor:
        if length > self.most:
            raise self.error
        made: torch.Tensor = self.work(length)
        return made


@pytest.mark.parametrize("network", ["_prenet", "_wave"])
def test_where_memory_is_short_for_a_capture_runs_are_shorter(
    gpu: Gpu, batch: CodecBatch, network: str, events: Events
) -> None:
    graphs = getattr(batch, network)
    graphs._work = room = Room(graphs._work, 64, torch.OutOfMemoryError("CUDA out of memory"))
    batch.prepare()
    assert events() == [("audio is made of fewer tokens at once", {"tokens": 128})]
    most = {"_prenet": (64, 128), "_wave": (128, 64)}[network]
    assert (batch.lengths.most_prenet, batch.lengths.most_wave) == most
    assert is_upstreams(batch, 60)
    room.most = 128  # a single chunk is tried all the same
    assert is_upstreams(batch, 100)


def test_a_capture_that_fails_otherwise_leaves_what_is_written(
    gpu: Gpu, batch: CodecBatch, events: Events
) -> None:
    error = RuntimeError("operation not permitted when stream is capturing")
    batch._prenet._work = room = Room(batch._prenet._work, 64, error)
    batch.prepare()
    assert events() == [("the codec runs uncaptured", {"error": str(error)})]
    room.most = 128
    assert all(is_upstreams(batch, count) for count in EXPECTED)
