"""How much each case of the benchmark does."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.random_checkpoint import FULL, Sizes


@dataclass(frozen=True)
class Scale:
    """Counts of tokens, sentences, rounds and seconds. A token is 20 ms of audio."""

    name: str
    sizes: Sizes
    tokens: int = 60  # of each sentence
    rounds: int = 3  # of which the median counts
    sentences: int = 8  # of a text, and jobs at once
    long_tokens: int = 250  # of the sentence whose process's memory is measured
    streamed_tokens: int = 250  # of a sentence whose first audio is waited for: 5 s
    starts: int = 5  # of our worker, at each place; the first finds memory that is not there yet
    their_starts: int = 1  # of upstream's
    warming_starts: int = 1  # of both sides, before them: for the page cache
    cold_starts: bool = True  # from a disk whose files the kernel has forgotten, all of them
    slow_starts: tuple[float, ...] = (1, 3)  # milliseconds that a call of a slow volume takes
    reference_seconds: int = 10
    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)  # of a batch
    short_steps: int = 8  # a rate is the difference of a long run and a short one
    long_steps: int = 40
    texts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)  # sentences
    text_tokens: int = 30  # of each of them
    decoded: tuple[int, ...] = (10, 60, 600)  # seconds of audio out of the codec
    listened: tuple[int, ...] = (10, 30, 60)  # into it; a reference has at most 60
    aligned: tuple[int, ...] = (10, 60, 600)
    arrivals: int = 8  # jobs at random times
    arrival_sentences: int = 3  # of each of them
    arrival_seconds: float = 6.0  # within which they come
    judged: int = 128  # tokens after the prompt whose logits are compared
    greedy: int = 48
    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)  # on a GPU
    copied: int = 1 << 30  # bytes whose reading measures the memory


FULL_SCALE = Scale("full", FULL)
# Heads of 32 channels, so that every kind of language model that the worker has runs.
TINY_SCALE = Scale(
    "tiny",
    Sizes(hidden=64, heads=2, kv_heads=1, intermediate=64),
    tokens=10,
    rounds=1,
    sentences=2,
    long_tokens=12,
    streamed_tokens=128,
    starts=1,
    warming_starts=0,
    cold_starts=False,
    slow_starts=(0,),
    reference_seconds=1,
    rows=(1, 2),
    short_steps=2,
    long_steps=12,
    texts=(1, 2),
    text_tokens=6,
    decoded=(1, 2),
    listened=(1, 2),
    aligned=(2, 4),
    arrivals=2,
    arrival_sentences=1,
    arrival_seconds=0.2,
    judged=12,
    greedy=8,
    concurrency=(1, 2),
    copied=1 << 20,
)
SCALES = {scale.name: scale for scale in (FULL_SCALE, TINY_SCALE)}
