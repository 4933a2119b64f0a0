"""What is made of starts' figures, and the queue and the disk that the starts are measured with."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bench.report import ROWS, table, verdict
from bench.start.case import summary
from bench.start.launch import Started
from bench.start.places import forget
from bench.start.queue import one_job
from bench.start.report import picture, places, tables
from tests.support.slow_volume import Counts

STAGES = {"interpreter": 0.5, "model": 2.0}
BEGAN = {"interpreter": 0.0, "model": 1.0}
HALVES = {name: seconds / 2 for name, seconds in STAGES.items()}


def ours(accepted: float, calls: int = 0, stages: dict[str, float] = STAGES) -> Started:
    asked = Counts(getattr=calls, open=7, read=9, bytes_read=2_500_000) if calls else None
    return Started(accepted, accepted + 1, asked, asked, stages, BEGAN)


def theirs(accepted: float, calls: int = 0) -> Started:
    return Started(accepted, None, Counts(getattr=calls) if calls else None, None)


def test_medians_count_and_the_stages_are_those_of_a_start_that_was() -> None:
    found = summary([theirs(20.0)], [ours(5.0), ours(3.0, stages=HALVES), ours(2.0)])
    assert (found["theirs"], found["ours"], found["times"]) == (20.0, 3.0, 6.67)
    assert (found["answered"], found["accepted"]) == (4.0, 3.0)
    assert found["stages"] == HALVES
    assert (found["ours_rounds"], found["theirs_rounds"]) == ([5.0, 3.0, 2.0], [20.0])
    assert "metadata" not in found  # of a local disk nobody counts


def test_of_the_calls_the_most_count() -> None:
    found = summary([theirs(20.0, 900)], [ours(3.0, 10), ours(2.0, 40), ours(4.0, 20)])
    assert found["metadata"] == 40 + 7
    assert found["answered_metadata"] == 40 + 7
    assert (found["opens"], found["reads"], found["megabytes"]) == (7, 9, 2.5)
    assert found["their_metadata"] == 900


def measured() -> dict[str, Any]:
    slow = summary([theirs(80.0, 30_000)], [ours(6.0, 93)])
    return {
        "warm": summary([theirs(20.0)], [ours(4.0)]),
        "slow_1": slow | {"of_warm": 1.5},
        "slow_3": slow | {"of_warm": 2.1},
        "metadata": 100,
        "their_metadata": 30_000,
    }


MACHINE = {"processor": "P", "threads": 2, "device": "no GPU", "torch": "2", "commit": "c",
           "date": "d"}  # fmt: skip


def test_each_figure_has_a_verdict() -> None:
    results = {
        "machine": MACHINE,
        "scale": {"name": "full", "tokens": 60, "sentences": 8},
        "start": measured(),
    }
    verdicts = [verdict(row, results) for row in ROWS if row.case.startswith("(e)")]
    assert verdicts == ["aim met", "met", "met, aim not", "NOT MET", "aim met"]
    text = table(results)
    assert tables(results["start"]) in text
    assert "| (e) start, volume of 1 ms a call | 80 s | 6 s | 13.3 times | ≥ 4 times |" in text


def test_the_tables_have_every_place_and_stage() -> None:
    by_place, by_stage = (part.splitlines() for part in tables(measured()).split("\n\n"))
    assert list(places(measured())) == [
        "warm local disk", "volume, 1 ms a call", "volume, 3 ms a call",
    ]  # fmt: skip
    assert by_place[2] == ("| warm local disk | 20 | 4 | 4 | 5 | 5 | - | - | - | - | - |")
    assert by_place[3] == (
        "| volume, 1 ms a call | 80 | 6 | 6 | 13.3 | 7 | 100 | 7 | 9 | 2 | 30,000, 0 |"
    )
    assert by_stage[2].startswith("| interpreter | 0.00 - 0.50 |")
    assert by_stage[3].startswith("| model | 1.00 - 3.00 |")


def test_what_was_not_measured_is_told_or_a_dash() -> None:
    alone = {"warm": summary([], [ours(4.0)]), "missing": "a slow mount needs /dev/fuse"}
    text = tables(alone)
    assert "| warm local disk | - | 4 | 4 | - |" in text
    assert text.endswith("not measured: a slow mount needs /dev/fuse.")


def test_the_picture_has_a_panel_for_each_place() -> None:
    panels = picture(measured()).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "warm local disk; upstream 20 s",
        "volume, 1 ms a call; upstream 80 s",
        "volume, 3 ms a call; upstream 80 s",
    ]
    bars = [(bar.get_x(), bar.get_width()) for bar in panels[0].patches]
    assert bars == [(0.0, 0.5), (1.0, 2.0)]


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
        return json.loads(answer.read() or b"null")


@pytest.mark.parametrize("several", [True, False])
def test_the_queue_has_one_job_and_notes_when_it_went_and_came(several: bool) -> None:
    job = {"id": "first", "input": {"text": "Hello."}}
    before = time.perf_counter()
    with one_job(job) as queue:
        assert not queue.asked.is_set()
        found = fetch(f"{queue.url}/job-take{'-batch' if several else ''}/x?gpu=none")
        assert found == ([job] if several else job)
        assert queue.asked.is_set()
        fetch(f"{queue.url}/job-done/x/first", {"status": "IN_PROGRESS", "output": {}})
        assert not queue.answered.is_set()
        fetch(f"{queue.url}/job-done/x/first", {"output": {"status": "success"}})
        fetch(f"{queue.url}/job-done/x/first", {"output": {"status": "again"}})
        assert queue.answer == {"output": {"status": "success"}}
        assert before < queue.asked_at < queue.answered_at


def test_forgetting_files_leaves_their_content(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    kept = tmp_path / "there" / "file"
    kept.write_bytes(b"kept")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "volume" / "nowhere").symlink_to(tmp_path / "gone")
    forget(tmp_path / "volume")
    assert kept.read_bytes() == b"kept"
