"""python -m scripts.scaling.measure: the demo model of this machine, through the HTTP door.

A worker process of its own, on a volume of its own, takes the same job from 1 to 8 clients at once.
The figures go into docs/scaling/measured.json under demo_cpu, and what was seen at each number of
clients into docs/scaling/load.json, against which the simulation is checked.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

from scripts.scaling.compare import SHARES
from scripts.scaling.inputs import HERE, MEASURED
from scripts.scaling.simulation import percentile
from tests.support.worker_process import environment, post, run, serving

TEXT = "My sister bought a green car last year. Please read this book to the children."
CLIENTS = (1, 2, 4, 8)
JOBS = 16  # at each number of clients
ARRIVING = 40  # jobs that come by themselves
SHARE = 0.5  # of what the worker can do, at which they come


def main() -> None:
    """Measure, and write both files."""
    with tempfile.TemporaryDirectory() as scratch:
        volume = Path(scratch)
        env = environment(volume)
        installed = run("-m", "volume", "install", "--model", "demo", env=env)
        installed.check_returncode()
        started = time.monotonic()
        with serving(env, volume / "worker.log") as url:
            start_seconds = time.monotonic() - started
            _ask(url, 0)  # the voice is heard once
            rounds = [_round(url, clients) for clients in CLIENTS]
            arriving = _arriving(url, SHARE * min(r["jobs_per_second"] for r in rounds))
    alone = rounds[0]
    beside = max(0.0, alone["latency"]["p50"] - alone["tokens"] / alone["speed"])
    values = json.loads(MEASURED.read_text(encoding="utf-8"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
    values["workers"]["demo_cpu"] = {
        "what": "the embedded model, which is far smaller than Spark-TTS",
        "from": "measured",
        "command": "python -m scripts.scaling.measure",
        "machine": machine,
        "speed": {str(r["rows_at_once"]): round(r["all_speed"], 1) for r in rounds},
        "slots": max(CLIENTS),
        "start_seconds": round(start_seconds, 1),
        "fixed_seconds": round(beside, 3),
        "codec_seconds": 0.0,
        "dollars_per_second": 0.0,
    }
    MEASURED.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    seen: dict[str, Any] = {
        "command": "python -m scripts.scaling.measure",
        "machine": machine,
        "rounds": rounds,
    }
    seen["arriving"] = arriving
    (HERE / "load.json").write_text(json.dumps(seen, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(seen, indent=2))


def _ask(url: str, seed: int) -> tuple[float, dict[str, Any]]:
    """Seconds of one job as its client sees it, and its answer."""
    job = {"text": TEXT, "prompt_speech_url": "demo.wav", "seed": seed}
    started = time.monotonic()
    answer = post(f"{url}/runsync", {"input": job})
    if answer["status"] != "COMPLETED":
        raise RuntimeError(str(answer))
    return time.monotonic() - started, answer["output"]


def _arriving(url: str, per_second: float) -> dict[str, Any]:
    """Jobs that come independently of each other: none of the inputs is taken from these."""

    def one(number: int, moment: float) -> tuple[float, dict[str, Any]]:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        return _ask(url, number)

    chance = random.Random(0)  # noqa: S311 - no secret
    moments = list(accumulate(chance.expovariate(per_second) for _ in range(ARRIVING)))
    began = time.monotonic()
    with ThreadPoolExecutor(ARRIVING) as pool:
        done = list(pool.map(one, range(ARRIVING), moments))
    return {
        "jobs": ARRIVING,
        "workers": 1,
        "concurrency": ARRIVING,
        "arrivals": per_second * 60,
        "moments": moments,
        **_seen(done),
    }


def _seen(done: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """What the jobs were, and their latencies in seconds."""
    seconds = [taken for taken, _ in done]
    metrics = [output["metrics"] for _, output in done]
    return {
        "rows": statistics.mean(m["sentences"] for m in metrics),
        "tokens": statistics.mean(m["tokens"] for m in metrics),
        "latency": {name: percentile(seconds, share) for name, share in SHARES.items()},
    }


def _round(url: str, clients: int) -> dict[str, Any]:
    """JOBS jobs, so many at a time, and what they took."""
    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(lambda seed: _ask(url, seed), range(JOBS)))
    wall = time.monotonic() - started
    metrics = [output["metrics"] for _, output in done]
    seen = _seen(done)
    return {
        "clients": clients,
        "jobs": JOBS,
        "rows_at_once": round(seen["rows"] * clients),
        "speed": statistics.median(m["tokens"] / m["seconds"]["speech"] for m in metrics),
        "all_speed": seen["tokens"] * JOBS / wall,
        "jobs_per_second": JOBS / wall,
        **seen,
    }


if __name__ == "__main__":
    main()
