"""The time of a job's stages."""

from __future__ import annotations

import pytest

from worker.stopwatch import Stopwatch


def test_a_stage_is_reached_once_and_its_time_adds_up() -> None:
    watch = Stopwatch()
    watch.mark("first")
    first = watch.seconds["first"]
    watch.mark("first")
    for _ in range(2):
        watch.add("audio", 1.5)
    assert watch.seconds == {"first": first, "audio": 3.0}


def test_a_stage_that_fails_has_its_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("worker.stopwatch.time.perf_counter", lambda: now[0])
    watch = Stopwatch()
    now[0] = 11.0

    def fail() -> None:
        with watch("audio"):
            now[0] = 13.0
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    with watch("audio"):
        now[0] = 13.5
    assert watch.seconds == {"audio": 2.5}
    assert watch.total == 3.5
    watch.mark("first")
    assert watch.seconds["first"] == 3.5
