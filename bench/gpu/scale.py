"""How much the check does: in full on a GPU, a little of everything on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.support.random_checkpoint import FULL, Sizes


@dataclass(frozen=True)
class Scale:
    """Counts; a token is 20 ms of audio."""

    name: str
    sizes: Sizes
    rows: tuple[int, ...] = (1, 3, 8, 32, 33, 64)  # of a batch, where there are as many slots
    steps: int = 40  # that two ways are compared over
    calls: int = 30  # of which the median counts
    prompts: tuple[int, ...] = (60, 61, 300, 600, 1000)  # tokens
    decoded: tuple[int, ...] = (250, 250, 250, 251, 251, 252, 300, 60, 60, 1000, 1000)  # tokens
    listened: tuple[int, ...] = (10, 10, 11)  # seconds
    streams: tuple[int, ...] = (1, 8, 32, 64)  # at once, where there are as many slots
    rounds: int = 3  # of the rates of few rows
    short_steps: int = 50  # a rate is the difference of a long run and a short one
    long_steps: int = 250
    job_tokens: int = 250
    each: int = 4  # sentences of a client that asks for one after the other
    stream_tokens: int = 250
    streams_heard: int = 96  # at each number of streams, in as many rounds as that takes
    fewest_rounds: int = 2
    most_rounds: int = 10
    upstream_rounds: int = 2
    company: int = 32  # streams at once
    company_tokens: int = 120
    exact_tokens: int = 120  # of each sentence, on the CPU and on the device
    judged: int = 48  # positions whose logits are compared
    cliff_jobs: int = 32
    cliff_tokens: int = 150
    busy_jobs: int = 32  # beside a busy Python thread
    busy_tokens: int = 150
    copied: int = 1 << 30  # bytes whose copying measures the memory

    def stream_rounds(self, count: int) -> int:
        """Rounds of so many streams."""
        wanted = -(-self.streams_heard // count)
        return min(max(wanted, self.fewest_rounds), self.most_rounds)

    def less(self) -> Scale:
        """What is enough of what is measured beside ours."""
        return replace(self, rounds=1, calls=10, each=3, streams_heard=3, fewest_rounds=1)


SCALES = {
    "full": Scale("full", FULL),
    # Heads of 32 channels, which every kind of language model that the worker has can run.
    "tiny": Scale(
        "tiny",
        Sizes(hidden=64, heads=2, kv_heads=1, intermediate=64),
        rows=(1, 3, 8),
        steps=8,
        calls=3,
        prompts=(60, 61),
        decoded=(20, 20, 20, 21),
        listened=(2, 2, 3),
        job_tokens=10,
        streams=(1, 4),
        rounds=1,
        short_steps=3,
        long_steps=12,
        each=3,
        stream_tokens=80,
        streams_heard=1,
        fewest_rounds=1,
        upstream_rounds=1,
        company=3,
        company_tokens=20,
        exact_tokens=16,
        judged=8,
        cliff_jobs=4,
        cliff_tokens=10,
        busy_jobs=2,
        busy_tokens=3,
        copied=1 << 20,
    ),
}
