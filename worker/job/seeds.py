"""The seeds of a job: that of its first takes, and those of its retakes."""

from __future__ import annotations

import hashlib
import secrets

from worker.api.request import SpeechRequest
from worker.job.answer_record import digest

SEED_BITS = 53  # of a seed that is drawn; every JSON reader keeps so many
SEEDS = 2**63  # that a job may name


def random_seed(request: SpeechRequest) -> int:
    """The request's seed or, where it has none, one that is drawn by chance."""
    return secrets.randbits(SEED_BITS) if request.seed is None else request.seed


def job_seed(request: SpeechRequest, job_id: str) -> int:
    """The request's seed or, where it has none, one that is drawn but the same at each delivery.

    Two workers that do one job at the same time, each taking the other for dead, then write the
    same results under the same keys.
    """
    if request.seed is not None:
        return request.seed
    drawn = hashlib.sha256(f"{job_id} {digest(request)}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> (64 - SEED_BITS)


def speaker_seed(seed: int, number: int) -> int:
    """The seed that the voice of speaker `number`, from 0 on, of one style is designed with."""
    return (seed + number) % SEEDS


def retake_seed(seed: int, attempt: int) -> int:
    """The seed of a job's sentences when they are spoken again; `attempt` counts from 1."""
    return (seed + attempt) % SEEDS
