"""What counts on a GPU: jobs at once, first audio, steps against the memory's speed.

Threads and lengths are warm: what a GPU's libraries plan for a length, once in each thread, is not
in these figures.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch

from bench.cases import TOKENS_A_SECOND
from bench.measure import seconds
from bench.ours import Ours, exactly
from bench.rates import lm_rate
from bench.sentences import sentences
from bench.sides import Sides
from bench.step_bytes import BYTES, weight_bytes
from worker.speech.codec.eager_stream import FIRST_STEP
from worker.speech.lm.config import LMConfig

READS = 4  # of the block, before the device is waited for


def concurrency(sides: Sides) -> dict[str, Any]:
    """Seconds of audio made in a second, by jobs at once, each after a round unmeasured."""
    scale = sides.scale
    made = {}
    for count in scale.concurrency:
        jobs = partial(sides.ours.jobs, sentences(count), scale.tokens)
        jobs()
        taken = seconds(jobs)
        made[str(count)] = round(count * scale.tokens / TOKENS_A_SECOND / taken, 3)
    return {"audio_seconds_per_second": made}


def first_audio(sides: Sides) -> dict[str, Any]:
    """Seconds to the first samples of a streamed sentence, and to the same sentence as a whole.

    Medians, after a round unmeasured. Raises RuntimeError where the sentence is too short to be
    streamed, or its first samples came with its last.
    """
    ours, tokens = sides.ours, sides.scale.streamed_tokens
    waits_for = first_tokens(ours)
    if tokens <= waits_for:
        raise RuntimeError(f"{tokens} tokens are no stream: its first audio waits for {waits_for}")
    firsts, wholes = [], []
    for number in range(-1, sides.scale.rounds):
        first = seconds_to_first_samples(ours, tokens, seed=number + 1)
        whole = seconds(partial(ours.speak, sentences(1), tokens, seed=number + 1))
        if number >= 0:
            firsts.append(first)
            wholes.append(whole)
    return {
        "audio_seconds": tokens / TOKENS_A_SECOND,
        "stream_waits_for_tokens": waits_for,
        "stream_first_audio": round(statistics.median(firsts), 3),
        "whole_sentence": round(statistics.median(wholes), 3),
    }


def first_tokens(ours: Ours) -> int:
    """Tokens that a stream has been given when its first samples come."""
    return ours.engine._codec.look_ahead + FIRST_STEP


def seconds_to_first_samples(ours: Ours, tokens: int, seed: int) -> float:
    """Of a sentence's stream, which is then heard to its end.

    Raises RuntimeError where the first samples came with the last, or it has not all its samples.
    """
    started = time.perf_counter()
    first, heard, ended = 0.0, 0, False
    for piece in ours.engine.stream(sentences(1), ours.voice, exactly(tokens, seed=seed)):
        if len(piece.samples) and not heard:
            first = time.perf_counter() - started
            if piece.utterance is not None:
                raise RuntimeError("the first samples of the stream came with its last")
        heard += len(piece.samples)
        ended = piece.utterance is not None
    if not ended or heard != tokens * ours.engine._codec.audio.hop:
        raise RuntimeError(f"the stream gave {heard} samples of {tokens} tokens")
    return first


def bandwidth(sides: Sides) -> dict[str, Any]:
    """The weights that a step of one row must read, against what the memory can give."""
    ours, scale = sides.ours, sides.scale
    rate = lm_rate(ours, 1, scale)
    config: LMConfig = ours.engine._lm.config
    size = weight_bytes(config, len(ours.semantic_ids()) + 1, BYTES[ours.kind])
    limit = read_speed(sides.device, scale.copied)
    return {
        "bytes_per_step": size,
        "steps_per_second": rate,
        "bytes_per_second": round(size * rate),
        "limit_bytes_per_second": round(limit),
        "share_of_limit": round(size * rate / limit, 3),
    }


def read_speed(device: str, size: int) -> float:
    """Bytes that the memory gives in a second, by the best of ten times READS sums of `size`."""
    block = torch.ones(size // 4, dtype=torch.float32, device=device)

    def read() -> None:
        for _ in range(READS):
            total = block.sum()
        total.item()  # waits for the device

    read()
    return READS * size / min(seconds(read) for _ in range(10))
