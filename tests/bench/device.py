"""What counts on a GPU: jobs at once, first audio, steps against the memory's speed."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from tests.bench.cases import TOKENS_A_SECOND
from tests.bench.load import lm_rate
from tests.bench.measure import seconds
from tests.bench.ours import Ours, exactly
from tests.bench.sentences import sentences
from tests.bench.sides import Sides
from worker.speech.lm import LMConfig

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def concurrency(sides: Sides) -> dict[str, Any]:
    """Seconds of audio made in a second, for each number of jobs at once."""
    scale = sides.scale
    made = {}
    for count in scale.concurrency:
        texts = sentences(count)
        taken = seconds(partial(sides.ours.jobs, texts, scale.tokens))
        made[str(count)] = round(count * scale.tokens / TOKENS_A_SECOND / taken, 3)
    return {"audio_seconds_per_second": made}


def first_audio(sides: Sides) -> dict[str, Any]:
    """Seconds to the first samples of one sentence; in pieces where the engine gives them."""
    scale = sides.scale
    waits = sorted(_first_samples(sides.ours, scale.tokens, number) for number in range(5))
    return {"streamed": hasattr(sides.ours.engine, "stream"), "median": round(waits[2], 3)}


def _first_samples(ours: Ours, tokens: int, seed: int) -> float:
    started = time.perf_counter()
    asked = (sentences(1), ours.voice, exactly(tokens, seed=seed))
    stream = getattr(ours.engine, "stream", ours.engine.speak)(*asked)
    try:
        while not len(next(stream).samples):
            pass
        return time.perf_counter() - started
    finally:
        stream.close()


def bandwidth(sides: Sides) -> dict[str, Any]:
    """The weights that a step of one row must read, against what the memory can give."""
    ours, scale = sides.ours, sides.scale
    rate = lm_rate(ours, 1, scale)
    config: LMConfig = ours.engine._lm.config
    size = step_bytes(config, len(ours.semantic_ids()) + 1, BYTES[ours.kind])
    limit = read_speed(sides.device, scale.copied)
    return {
        "bytes_per_step": size,
        "steps_per_second": rate,
        "bytes_per_second": round(size * rate),
        "limit_bytes_per_second": round(limit),
        "share_of_limit": round(size * rate / limit, 3),
    }


def step_bytes(config: LMConfig, head: int, width: int) -> int:
    """Of all matrices of the layers and `head` rows of the output, `width` bytes a weight."""
    c = config
    keys = c.num_key_value_heads * c.head_dim
    attention = 2 * c.hidden_size * (c.hidden_size + keys)
    layers = c.num_hidden_layers * (attention + 3 * c.hidden_size * c.intermediate_size)
    return width * (layers + head * c.hidden_size)


def read_speed(device: str, size: int) -> float:
    """Bytes that the memory gives in a second: the best sum over `size` bytes, of ten."""
    block = torch.ones(size // 4, dtype=torch.float32, device=device)

    def read() -> None:
        block.sum().item()  # item() waits for the device

    read()
    return size / min(seconds(read) for _ in range(10))
