"""What a step costs the host: Python's part of it, which all threads of the worker wait for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.ours import Ours
from bench.sentences import sentences

ROUNDS = 5


def python(bench: Bench) -> Found:
    """Microseconds of the scheduler a step, where the steps' own work is nothing; by rows.

    On a GPU also those of the real engine: its steps less what they waited for the device.
    """
    short, long = bench.scale.short_steps, bench.scale.long_steps
    found: Found = {}
    for rows in bench.scale.streams:
        run = inside.still_scheduler(rows, long)
        found[str(rows)] = {"scheduler_us": _difference(run, short, long)}
        if bench.on_gpu and rows <= inside.slots(bench.ours.engine):
            found[str(rows)]["launches_too_us"] = _difference(_real(bench.ours, rows), short, long)
    return found


def _difference(run: Callable[[int], float], short: int, long: int) -> float:
    """Microseconds a step, from the seconds of long runs and short ones."""
    run(short)
    taken = {steps: statistics.median(run(steps) for _ in range(ROUNDS)) for steps in (short, long)}
    return round(1e6 * (taken[long] - taken[short]) / (long - short), 1)


def _real(ours: Ours, rows: int) -> Callable[[int], float]:
    texts = sentences(rows)

    def run(steps: int) -> float:
        with ours.without_codec(), inside.waits_for_device() as waited:
            begun = time.perf_counter()
            ours.speak(texts, steps)
            return time.perf_counter() - begun - sum(waited)

    return run
