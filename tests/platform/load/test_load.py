"""`make load`, reduced: all kinds of jobs, one kill, the bucket and the platform failing."""

from __future__ import annotations

from pathlib import Path

from tests.platform.load.load import Load, Size


def test_nothing_is_lost_doubled_or_leaked(demo_volume: Path, tmp_path: Path) -> None:
    size = Size(jobs=48, workers=2, clients=16, kill_seconds=4.0, kills=1)
    report = Load(size, tmp_path).run(demo_volume)
    assert report.good, str(report)
    assert report.kills == 1
    assert report.urls > 48
    assert report.storage_faults > 0
    assert report.platform_faults > 0
