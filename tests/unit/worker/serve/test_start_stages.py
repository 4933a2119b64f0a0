"""The stages of a start: from the process's first moment, across the installer, by any thread."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import Events
from volume.start_clock import INSTALLER_RAN, installer_ran, now, process_started
from worker.serve import start_stages
from worker.serve.start_stages import Span, StartStages


class Clock:
    """Seconds since boot, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: float) -> None:
        self.at = at
        monkeypatch.setattr(start_stages, "now", lambda: self.at)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, 1000.0)


def stages(first_line: float = 1000.0, ran: str = "", begun: float | None = 998.0) -> StartStages:
    return StartStages(first_line, variables={INSTALLER_RAN: ran}, process=lambda: begun)


def test_this_process_began_before_now_and_after_the_boot() -> None:
    begun = process_started()
    assert begun is not None
    assert 0 < begun < now()
    written = Path("/proc/self/stat").stat().st_ctime  # of when this process's entry was made
    assert now() - begun == pytest.approx(time.time() - written, abs=60)


def test_a_process_with_any_name_tells_its_start(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    fields = " ".join(str(number) for number in range(3, 53))
    stat.write_text(f"1 (a) b (c) {fields}\n")
    assert process_started(stat) == pytest.approx(22 / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("content", [None, "", "1 (python) S 1 2"])
def test_where_none_can_tell_the_worker_counts_from_its_first_line(
    tmp_path: Path, clock: Clock, content: str | None
) -> None:
    stat = tmp_path / "stat"
    if content is not None:
        stat.write_text(content)
    assert process_started(stat) is None
    clock.at = 1001.0
    found = StartStages(1000.0, variables={}, process=lambda: process_started(stat))
    found.since_first_line("imports")
    assert found.seconds == pytest.approx({"interpreter": 0, "imports": 1})


def test_the_installer_is_told_from_pythons_own_time(clock: Clock) -> None:
    found = stages(ran="998.25 999.5")
    assert found.spans == {"interpreter": Span(0.0, 0.75), "environment": Span(0.25, 1.25)}


def test_the_installer_says_when_it_ran() -> None:
    began = now() - 0.5
    variables = installer_ran(began)
    found = StartStages(variables=variables, process=lambda: began - 0.25)
    assert found.seconds["environment"] == pytest.approx(0.5, abs=0.2)
    assert found.seconds["interpreter"] >= 0.249


@pytest.mark.parametrize(
    "ran", ["", "soon", "1", "1 2 3", "900 901", "999 1001", "999.5 999", "nan nan"]
)
def test_times_of_another_process_are_not_believed(clock: Clock, ran: str) -> None:
    assert stages(ran=ran).spans == {"interpreter": Span(0.0, 2.0)}


def test_a_process_that_began_later_than_its_first_line_is_not_believed(clock: Clock) -> None:
    assert stages(begun=1000.5).seconds == {"interpreter": 0.0}


def test_a_stage_of_several_blocks_begins_with_the_first(clock: Clock) -> None:
    found = stages()
    for step in (1.0, 0.5):
        with suppress(KeyError), found("checks"):
            clock.at += step
            raise KeyError  # what fails took its time too
        clock.at += 10
    assert found.spans["checks"] == Span(2.0, 1.5)


def test_threads_time_their_stages_at_once() -> None:
    found = StartStages()

    def work(number: int) -> None:
        for _ in range(200):
            with found(f"stage {number % 4}"):
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert set(found.seconds) == {"interpreter", *(f"stage {number}" for number in range(4))}


def test_the_start_is_told_once_when_the_worker_is_ready(clock: Clock, events: Events) -> None:
    found = stages(ran="998.25 999.5")
    with found("model"):
        clock.at += 3
    found.ready()
    clock.at += 10
    found.ready()
    assert events() == [
        (
            "worker started",
            {
                "seconds": 5.0,
                "stages": {"interpreter": 0.75, "environment": 1.25, "model": 3.0},
                "began": {"interpreter": 0.0, "environment": 0.25, "model": 2.0},
            },
        )
    ]


def test_the_first_job_alone_is_told_how_the_worker_started(clock: Clock) -> None:
    found = stages()
    found.ready()
    clock.at += 1
    first = found.accept()
    assert found.accept() is None
    clock.at += 2
    assert first is not None
    told: dict[str, Any] = first()
    assert told == {"interpreter": 2.0, "ready": 2.0, "accepted": 3.0, "answered": 5.0}
    assert found.accept() is None
