"""The measure of Python a step: each step of what is asked for is counted."""

from __future__ import annotations

from bench.scheduling import STEPS, microseconds
from worker.speech.batch.sequence import SequenceRequest


def test_the_steps_of_all_sequences_are_counted() -> None:
    requests = [SequenceRequest((1, 2, 3), f"{n}", 20) for n in range(3)]
    times = microseconds(2, requests)
    assert 2 * 20 - 1 <= len(times) <= 2 * 20 + 1  # two together, then the third
    assert all(time > 0 for time in times)
    assert max(request.limit for request in requests) < STEPS
