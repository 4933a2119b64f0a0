"""python -m scripts.scaling.compare LOAD.json [WORKER]: the simulation beside a real load test.

LOAD.json: {"jobs": 1000, "workers": 4, "concurrency": 2, "arrivals": "at_once" or jobs a minute,
"rows": 1, "tokens": 200, "latency": {"p50": 1.0, "p95": 2.0, "p99": 3.0}}, in seconds. `rows` and
`tokens` are means over the jobs; "moments", the second at which each job came, may stand there too.
WORKER names an entry of docs/scaling/measured.json.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.scaling.inputs import MEASURED, Job, Platform, Worker, worker_of
from scripts.scaling.simulation import poisson, simulate

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Comparison:
    """Latencies in seconds by percentile: what was seen, and what the simulation gives."""

    seen: dict[str, float]
    simulated: dict[str, float]

    def worst(self) -> float:
        """The factor by which the two differ most, 1 or more."""
        ratios = (self.simulated[name] / self.seen[name] for name in self.seen)
        return max(max(ratio, 1 / ratio) for ratio in ratios)


def compare(load: dict[str, Any], kind: Worker) -> Comparison:
    """Simulate what a load test did, on workers that were all up before."""
    kind = replace(kind, slots=int(load["concurrency"]))
    platform = Platform(least=int(load["workers"]), most=int(load["workers"]), queue_delay=None)
    job = Job(max(1, round(load["rows"])), float(load["tokens"]))
    if "moments" in load:
        arrivals = [(float(moment), job) for moment in load["moments"]]
    elif load["arrivals"] == "at_once":
        arrivals = [(0.0, job)] * int(load["jobs"])
    else:
        rate = float(load["arrivals"]) / 60

        def same(_chance: random.Random) -> Job:
            return job

        arrivals = poisson(rate, int(load["jobs"]) / rate, same)
    found = simulate(arrivals, kind, platform)
    seen = {name: float(load["latency"][name]) for name in SHARES}
    return Comparison(seen, {name: found.latency(share) for name, share in SHARES.items()})


def main() -> None:
    """Print both, and the factor between them."""
    workers = json.loads(MEASURED.read_text(encoding="utf-8"))["workers"]
    name = sys.argv[2] if len(sys.argv) > 2 else "demo_cpu"
    load = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = compare(load, worker_of(workers[name]))
    for share in SHARES:
        print(f"{share}: seen {found.seen[share]:.2f} s, simulated {found.simulated[share]:.2f} s")
    print(f"they differ by a factor of {found.worst():.2f} at most")


if __name__ == "__main__":
    main()
