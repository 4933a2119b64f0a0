"""What a job cost, in figures: the pipeline's tests have them of whole jobs."""

from __future__ import annotations

import pytest

from worker.job.metrics import overhead
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
