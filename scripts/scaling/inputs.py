"""The simulation's inputs: what a worker can do, what jobs are like, what the platform does."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Worker:
    """What one worker does with its time.

    `speed` is the tokens a second of all rows together, by the number of rows in the batch;
    between two sizes it is interpolated, beyond the last it stays. `fixed_seconds` are those of a
    job that are spent beside the batch: checks, voice, encoding, upload. `codec_seconds` are for
    one token, and shared with the batch as the same device does both.

    `pause_seconds` are those for which RunPod's SDK (1.12.0, rp_scale.get_jobs) asks for no job
    after it has found all slots taken; and there a job that was just taken counts twice.
    """

    speed: tuple[tuple[float, float], ...]
    slots: int  # jobs at the same time
    start_seconds: float  # from the platform's decision to the first job taken
    fixed_seconds: float = 0.0
    codec_seconds: float = 0.0
    pause_seconds: float = 0.0
    dollars_per_second: float = 0.0

    def tokens_per_second(self, rows: int) -> float:
        """Of all rows together, the codec's time included."""
        sizes = [size for size, _ in self.speed]
        at = bisect_left(sizes, rows)
        if at == len(sizes):
            speed = self.speed[-1][1]
        elif sizes[at] == rows or at == 0:
            speed = self.speed[at][1] * min(1.0, rows / sizes[at])
        else:
            (low, slow), (high, fast) = self.speed[at - 1 : at + 1]
            speed = slow + (fast - slow) * (rows - low) / (high - low)
        return 1 / (1 / speed + self.codec_seconds)


@dataclass(frozen=True)
class Job:
    """The work of a job: equal rows (sentences), and tokens of all of them together."""

    rows: int
    tokens: float


@dataclass(frozen=True)
class Texts:
    """The lengths of texts: log-normal, in characters, cut to what the API takes."""

    median: float = 150.0
    spread: float = 0.9  # of the logarithm
    characters_per_row: float = 90.0
    tokens_per_character: float = 3.5

    def draw(self, chance: random.Random) -> Job:
        """One job."""
        length = min(max(chance.lognormvariate(math.log(self.median), self.spread), 1.0), 20_000.0)
        rows = max(1, round(length / self.characters_per_row))
        return Job(rows, length * self.tokens_per_character)


@dataclass(frozen=True)
class Platform:
    """How RunPod scales an endpoint (its documentation, endpoint settings)."""

    least: int = 0  # active workers
    most: int = 3  # max workers
    idle_seconds: float = 5.0
    queue_delay: float | None = 4.0  # a worker is added when a job waits longer
    per_worker: int | None = None  # or: ceil(jobs queued and running / per_worker) workers
    warm_share: float = 0.0  # of starts that FlashBoot makes short
    warm_seconds: float = 2.0


def worker_of(values: Mapping[str, Any]) -> Worker:
    """The worker that measured.json describes."""
    speed = tuple(sorted((float(rows), float(rate)) for rows, rate in values["speed"].items()))
    names = (
        "slots", "start_seconds", "fixed_seconds", "codec_seconds", "pause_seconds",
        "dollars_per_second",
    )  # fmt: skip
    return Worker(speed, **{name: values[name] for name in names})


HERE = Path(__file__).parents[2] / "docs" / "scaling"
MEASURED = HERE / "measured.json"
