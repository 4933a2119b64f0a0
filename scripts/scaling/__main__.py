"""python -m scripts.scaling [--quick]: simulate 1 to 10,000 requests a minute; table and plots.

Writes docs/scaling/results.json and the plots beside it, and between the marks in docs/SCALING.md
the table and how the simulation compares with `make load`. --quick simulates little and writes
nothing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scripts.documents import write_between
from scripts.scaling.compare import LOAD, compare
from scripts.scaling.inputs import HERE, MEASURED, Job, Platform, Texts, Worker, worker_of
from scripts.scaling.plots import draw
from scripts.scaling.simulation import poisson, simulate

PER_MINUTE = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
SLOTS = (1, 4, 8, 16)
SLOTS_AT = 300  # requests a minute at which the number of slots is varied
MARKS = ("<!-- results -->\n", "<!-- /results -->")
CHECKED = ("<!-- checked -->\n", "<!-- /checked -->")
HEADROOM = 1.5  # max workers, in terms of those that full batches would need


def main() -> None:
    """Simulate all of it."""
    quick = "--quick" in sys.argv[1:]
    values = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = []
    slots: list[dict[str, Any]] = []
    for name, about in values["workers"].items():
        if name == "demo_cpu":
            continue
        kind = worker_of(about)
        rates = PER_MINUTE[:5] if quick else PER_MINUTE
        rows += [_case(name, kind, rate, values["platform"], quick=quick) for rate in rates]
        if not quick:
            slots += [
                _case(name, replace(kind, slots=n), SLOTS_AT, values["platform"], quick=quick)
                for n in SLOTS
            ]
    print(table(rows))
    if quick:
        return
    found = {"by_rate": rows, "by_slots": slots}
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(rows, slots, HERE)
    document = HERE.parent / "SCALING.md"
    write_between(document, MARKS, table(rows))
    write_between(document, CHECKED, checked(values))


def _case(
    name: str, kind: Worker, per_minute: int, platform: Mapping[str, Any], *, quick: bool
) -> dict[str, Any]:
    """One endpoint at one rate: long enough for some thousand jobs, and not for ever."""
    wanted = 300 if quick else 12_000
    seconds = min(max(60 * wanted / per_minute, 900.0), 6 * 3600.0 if not quick else 3600.0)
    texts = Texts()
    arrivals = poisson(per_minute / 60, seconds, texts.draw, seed=per_minute)
    full = _full_batches(kind, [job for _, job in arrivals], seconds)
    rules = Platform(
        least=0,
        most=math.ceil(HEADROOM * full) + 1,
        idle_seconds=float(platform["idle_seconds"]),
        queue_delay=float(platform["queue_delay"]),
        warm_share=float(platform["warm_share"]),
        warm_seconds=float(platform["warm_seconds"]),
    )
    found = simulate(arrivals, kind, rules)
    jobs = max(len(found.latencies), 1)
    return {
        "worker": name,
        "per_minute": per_minute,
        "slots": kind.slots,
        "jobs": jobs,
        "full_batches": round(full, 2),
        "p50": round(found.latency(0.5), 2),
        "p95": round(found.latency(0.95), 2),
        "p99": round(found.latency(0.99), 2),
        "mean_workers": round(found.billed_seconds / seconds, 2),
        "most_workers": found.most_workers,
        "starts_per_hour": round(found.starts / seconds * 3600, 1),
        "busy": round(found.busy_seconds / found.billed_seconds, 2),
        "dollars_per_1000": round(1000 * found.billed_seconds * kind.dollars_per_second / jobs, 3),
    }


def _full_batches(kind: Worker, jobs: Sequence[Job], seconds: float) -> float:
    """Workers that the work would need if every slot were always taken."""
    rows = sum(job.rows for job in jobs) / len(jobs)
    speed = kind.tokens_per_second(round(kind.slots * rows))
    return sum(job.tokens for job in jobs) / seconds / speed


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    titles = [
        "worker", "requests a minute", "workers at full batch", "workers, mean", "workers, most",
        "starts an hour", "p50", "p95", "p99", "dollars for 1,000",
    ]  # fmt: skip
    head = f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n"
    return head + "".join(
        f"| {row['worker']} | {row['per_minute']:,} "
        f"| {row['full_batches']:g} | {row['mean_workers']:g} "
        f"| {row['most_workers']} | {row['starts_per_hour']:g} | {row['p50']:.1f} s "
        f"| {row['p95']:.1f} s | {row['p99']:.1f} s | {row['dollars_per_1000']:.2f} |\n"
        for row in rows
    )


def checked(values: Mapping[str, Any]) -> str:
    """The calm part of the load test beside its simulation, as Markdown."""
    load = json.loads(LOAD.read_text(encoding="utf-8"))
    calm = load["calm"]
    last = max(job["at"] for job in calm["each"])
    found = compare(calm, worker_of(values["workers"]["demo_cpu"]))
    said = (
        f"{len(calm['each'])} jobs, {60 * len(calm['each']) / last:.0f} a minute, on "
        f"{calm['workers']} workers of {load['machine']}:\n\n"
    )
    return said + found.table()


if __name__ == "__main__":
    main()
