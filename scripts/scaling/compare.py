"""python -m scripts.scaling.compare LOAD.json [WORKER]: the simulation beside a real load test.

LOAD.json is what `make load` writes: its "calm" part has {"workers": 2, "concurrency": 8,
"each": [{"at": 0.5, "rows": 1, "tokens": 97}, ...], "latency": {"p50": 1.0, "p95": 2.0,
"p99": 3.0}}, in seconds: when each job came and what work it was, and how long they took. Any other
load test may be written down so. WORKER names an entry of docs/scaling/measured.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.scaling.inputs import HERE, MEASURED, Job, Platform, Worker, worker_of
from scripts.scaling.simulation import simulate

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
FACTOR = 2.0  # by which simulated and real latencies may differ, of each percentile
LOAD = HERE / "load.json"


@dataclass(frozen=True)
class Comparison:
    """Latencies in seconds by percentile: what was seen, and what the simulation gives."""

    seen: dict[str, float]
    simulated: dict[str, float]

    def worst(self) -> float:
        """The factor by which the two differ most, 1 or more."""
        ratios = (self.simulated[name] / self.seen[name] for name in self.seen)
        return max(max(ratio, 1 / ratio) for ratio in ratios)

    def table(self) -> str:
        """Both as Markdown."""
        head = "| latency | seen | simulated | simulated / seen |\n| --- | --- | --- | --- |\n"
        return head + "".join(
            f"| {name} | {self.seen[name]:.2f} s | {self.simulated[name]:.2f} s "
            f"| {self.simulated[name] / self.seen[name]:.2f} |\n"
            for name in SHARES
        )


def compare(load: Mapping[str, Any], kind: Worker) -> Comparison:
    """Simulate what a load test did, on workers that were all up before."""
    kind = replace(kind, slots=int(load["concurrency"]))
    platform = Platform(least=int(load["workers"]), most=int(load["workers"]), queue_delay=None)
    arrivals = [
        (float(job["at"]), Job(max(1, round(job["rows"])), float(job["tokens"])))
        for job in sorted(load["each"], key=lambda job: float(job["at"]))
    ]
    found = simulate(arrivals, kind, platform)
    seen = {name: float(load["latency"][name]) for name in SHARES}
    return Comparison(seen, {name: found.latency(share) for name, share in SHARES.items()})


def main() -> None:
    """Print both, and the factor between them."""
    workers = json.loads(MEASURED.read_text(encoding="utf-8"))["workers"]
    name = sys.argv[2] if len(sys.argv) > 2 else "demo_cpu"
    load = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = compare(load.get("calm", load), worker_of(workers[name]))
    print(found.table())
    print(f"they differ by a factor of {found.worst():.2f} at most")


if __name__ == "__main__":
    main()
