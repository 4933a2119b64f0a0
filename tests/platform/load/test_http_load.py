"""`make load-http`, reduced: more listeners than a worker takes, half of whom leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.http_load.__main__ import main

LIMIT = 4  # requests at the same time


def test_listeners_who_come_and_go_leave_nothing_behind(
    demo_volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "http.json"
    monkeypatch.setenv("SPARK_MODEL", "demo")
    monkeypatch.setenv("HTTP_MAX_REQUESTS", str(LIMIT))
    sizes = ["--together", "2", "--rounds", "2", "--listeners", "12", "--seconds", "4"]
    assert main([*sizes, "--volume", str(demo_volume), "--out", str(out)]) == 0
    together, crowd = json.loads(out.read_text())["rows"]
    assert (together["whole"], together["refused"], together["failed"]) == (4, 0, [])
    assert together["first_audio_p50"] > 0
    assert crowd["failed"] == []
    assert crowd["refused"] > 0
    assert crowd["whole"] > 0
    assert crowd["left"] > 0
    begin, end = crowd["begin"], crowd["end"]
    assert end["handles"] <= begin["handles"] + 4  # of connections that are kept open
    # A thread for each request, as many again that are on their way out, and one for each job.
    assert end["threads"] <= begin["threads"] + 3 * LIMIT
    assert end["megabytes"] < begin["megabytes"] + 200
