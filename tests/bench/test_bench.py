"""A small smoke of `make bench`: every case runs, on tiny weights."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.worker_process import environment, run


def test_the_benchmark_runs(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = run(
        *("-m", "tests.bench.bench", "--sizes", "tiny", "--tokens", "12", "--rounds", "1"),
        *("--json", str(file)),
        env=environment(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert len(rows) == 5
    assert all(row["ours tokens/s"] > 0 and row["upstream tokens/s"] > 0 for row in rows)
