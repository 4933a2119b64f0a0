"""What a job cost, in figures: the pipeline's tests have them of whole jobs."""

from __future__ import annotations

import pytest

from tests.support.takes import take
from worker.job.metrics import metrics_of, overhead
from worker.job.retakes import Takes
from worker.stopwatch import Stopwatch


def test_overhead_is_what_no_stage_and_no_wait_accounts_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.stopwatch.time.perf_counter", lambda: now)
    watch = Stopwatch()
    now += 10.0
    for stage in ("queue", "voice", "speech", "audio", "timing", "subtitles", "storage"):
        watch.add(stage, 1.0)
    watch.add("first_audio", 2.0)  # part of others
    watch.add("codec", 1.0)  # part of speech
    watch.add("text", 0.25)  # the worker's own
    assert overhead(watch) == 3.0
    watch.add("speech", 100.0)
    assert overhead(watch) == 0.0


def test_a_take_that_is_dropped_costs_its_tokens_and_counts_as_a_retry() -> None:
    watch = Stopwatch()
    watch.add("speech", 2.0)
    takes = Takes((take("One.", 0.0), take("Two.", 0.5)), (take("Two.", 1.0),))
    metrics = metrics_of(watch, takes, voice_tokens=5, duration=0.2)
    assert (metrics.tokens, metrics.retries, metrics.sentences) == (5 + 3 * 3, 1, 2)
    assert metrics.tokens_per_second == pytest.approx(9 / 2.0)
    assert metrics.faults == ("sentence 2: a fault",)
