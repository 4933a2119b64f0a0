"""Changed job inputs at the queue's desk: a clear error each, or speech, and nothing besides."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.platform.hostile.desk import HostileDesk
from tests.platform.hostile.job_inputs import CHANGES, hostile_job

PARTS = 4
SECONDS = 30.0  # for one job; the longest text that passes takes a few
GROWTH_MB = 300  # between the first tenth and the end


def resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // 2**20


def test_every_change_is_made() -> None:
    assert {name for n in range(300) for name in hostile_job(n).changes} >= set(CHANGES)
    assert hostile_job(7) == hostile_job(7)


@pytest.mark.parametrize("part", range(PARTS))
def test_hostile_jobs(desk: HostileDesk, times: Callable[[int, int], int], part: int) -> None:
    count = times(160, 10_000) // PARTS
    first = part * count
    outcomes: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    slowest = (0.0, -1)
    settled = 0
    for number in range(first, first + count):
        job = hostile_job(number)
        try:
            outcome = desk.submit(job.asked, job.job_id)
        except BaseException as error:
            error.add_note(f"hostile_job({number}): {ascii(job)[:3000]}")
            raise
        assert outcome.seconds < SECONDS, f"hostile_job({number}) took {outcome.seconds} s"
        assert not outcome.seen.connected, f"hostile_job({number}): {outcome.seen.connected}"
        slowest = max(slowest, (outcome.seconds, number))
        outcomes[outcome.refused.code if outcome.refused else "spoken"] += 1
        if outcome.refused:
            fields[str(outcome.refused.field)[:24]] += 1
        if number == first + count // 10:
            gc.collect()
            settled = resident_mb()
    gc.collect()
    print(f"hostile jobs {first} to {first + count - 1}: {dict(outcomes)}")
    print(f"slowest: {slowest[0]:.2f} s, hostile_job({slowest[1]})")
    print(f"fields: {dict(fields.most_common(20))}; {resident_mb() - settled} MB more in the end")
    assert resident_mb() - settled < GROWTH_MB
    assert {"invalid_request", "spoken"} <= set(outcomes)
    assert outcomes["spoken"] >= count // 50
