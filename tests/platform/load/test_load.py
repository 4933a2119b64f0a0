"""`make load`, reduced: all kinds of jobs, one kill, the bucket and the platform failing."""

from __future__ import annotations

import json
from pathlib import Path

from bench.endpoint_load.__main__ import Load, Size
from scripts.scaling.compare import compare
from scripts.scaling.inputs import Worker


def test_nothing_is_lost_doubled_or_leaked(demo_volume: Path, tmp_path: Path) -> None:
    size = Size(jobs=48, workers=2, clients=16, kill_seconds=4.0, kills=1, calm_jobs=12)
    report = Load(size, tmp_path).run(demo_volume)
    assert report.good, str(report)
    assert report.kills == 1
    assert report.urls > 48
    assert report.storage_faults > 0
    assert report.platform_faults > 0
    told = json.loads(json.dumps(report.to_json()))
    assert (told["jobs"], told["answered_once"], told["lost"]) == (48, 48, 0)
    calm = compare(told["calm"], Worker(speed=((1, 300.0),), slots=8, start_seconds=0.0))
    assert set(calm.seen) == set(calm.simulated) == {"p50", "p95", "p99"}
    assert min(calm.seen.values()) > 0
