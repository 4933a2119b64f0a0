"""Ours under load: throughput against batch size, latency of jobs that come at random times."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.cases import TOKENS_A_SECOND
from bench.ours import exactly
from bench.rates import lm_rate
from bench.sentences import sentences
from bench.sides import Sides


def batch(sides: Sides) -> dict[str, Any]:
    """Tokens a second of the language model alone, for each number of rows."""
    rates = {str(rows): lm_rate(sides.ours, rows, sides.scale) for rows in sides.scale.rows}
    return {"kind": sides.ours.kind, "tokens_per_second": rates}


def latency(sides: Sides) -> dict[str, Any]:
    """Seconds from a job's coming to each of its sentences, where jobs come at random times."""
    scale, ours = sides.scale, sides.ours
    comings = np.sort(np.random.default_rng(4).uniform(0, scale.arrival_seconds, scale.arrivals))
    texts = sentences(scale.arrivals * scale.arrival_sentences)
    ours.jobs(texts[: scale.arrivals], scale.tokens)  # all threads that the jobs will have
    started = time.perf_counter()

    def job(number: int, coming: float) -> list[float]:
        time.sleep(max(0.0, started + coming - time.perf_counter()))
        mine = texts[number :: scale.arrivals]
        spoken = ours.engine.speak(mine, ours.voice, exactly(scale.tokens, seed=number))
        return [time.perf_counter() - started - coming for _ in spoken]

    coming = [ours.thread(n).submit(job, n, at) for n, at in enumerate(comings)]
    jobs = [one.result() for one in coming]
    waits = sorted(wait for job in jobs for wait in job)
    firsts = [job[0] for job in jobs]
    return {
        "jobs": scale.arrivals,
        "sentences": len(waits),
        "audio_seconds_each": scale.tokens / TOKENS_A_SECOND,
        "percentiles": {f"p{p}": round(float(np.percentile(waits, p)), 3) for p in (50, 95, 99)},
        "first_sentence": {f"p{p}": round(float(np.percentile(firsts, p)), 3) for p in (50, 95)},
        "waits": [round(wait, 3) for wait in waits],
    }
