"""python -m scripts.scaling.measure: what one worker of the demo model does on this machine.

A worker process takes its jobs from the stand-in for RunPod's queue and stores in a bucket, as in
`make load`. Clients that wait for their answer before they ask again keep it at a steady number of
jobs. What it did then goes into docs/scaling/measured.json under demo_cpu, and the rounds into
docs/scaling/rounds.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.endpoint_load.endpoint import SENTENCES, Endpoint, endpoint, work_of
from scripts.scaling.compare import SHARES
from scripts.scaling.inputs import HERE, MEASURED
from scripts.scaling.simulation import percentile
from tests.support.worker_process import environment, run

ROUNDS = HERE / "rounds.json"
CLIENTS = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4))  # clients, and sentences of each job
JOBS = 5  # of each client
SLOTS = 32  # so many that the SDK never pauses


def main() -> None:
    """Measure, and write both files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        volume = folder / "volume"
        installed = run("-m", "volume", "install", "--model", "demo", env=environment(volume))
        installed.check_returncode()
        with endpoint(volume, folder, MAX_CONCURRENCY=str(SLOTS)) as place:
            started = time.monotonic()
            place.grow_to(1)
            start_seconds = time.monotonic() - started
            place.ask(_job(0, 1))  # the voice is heard once
            rounds = [_round(place, clients, sentences) for clients, sentences in CLIENTS]
    fixed = rounds[0]["beside_seconds"]
    values = json.loads(MEASURED.read_text(encoding="utf-8"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, no GPU; the worker has one thread"
    values["workers"]["demo_cpu"] = {
        "what": "the embedded model, which is far smaller than Spark-TTS",
        "from": "measured",
        "command": "python -m scripts.scaling.measure",
        "machine": machine,
        "speed": _speeds(rounds),
        "slots": 8,
        "start_seconds": round(start_seconds, 1),
        "fixed_seconds": round(fixed, 3),
        "codec_seconds": 0.0,  # part of the speed
        "pause_seconds": 1.0,  # of the SDK, by its source
        "dollars_per_second": 0.0,
    }
    MEASURED.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    seen = {"command": "python -m scripts.scaling.measure", "machine": machine, "rounds": rounds}
    ROUNDS.write_text(json.dumps(seen, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(values["workers"]["demo_cpu"], indent=2))


def _speeds(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Tokens a second of all rows together, by how many shared the batch in the mean."""
    return {
        f"{seen['sharing']:.1f}": round(
            seen["sharing"] * seen["tokens"] / seen["rows"] / seen["speech_seconds"], 1
        )
        for seen in rounds
    }


def _job(seed: int, sentences: int) -> dict[str, Any]:
    said = [SENTENCES[(seed + n) % len(SENTENCES)] for n in range(sentences)]
    return {"text": " ".join(said), "prompt_speech_url": "demo.wav", "seed": seed}


def _round(place: Endpoint, clients: int, sentences: int) -> dict[str, Any]:
    """JOBS jobs of each client, and what they took."""

    def one(seed: int) -> dict[str, float]:
        done = place.ask(_job(seed, sentences))
        metrics = done.output["metrics"]
        speech = metrics["seconds"]["speech"]
        shared = metrics["batch_occupancy"]
        beside = done.seconds - speech
        return {**work_of(done), "speech": speech, "beside": beside, "sharing": shared}

    started = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, range(clients * JOBS)))
    wall = time.monotonic() - started
    seconds = [job["seconds"] for job in done]
    return {
        "clients": clients,
        "jobs": len(done),
        "rows": statistics.mean(job["rows"] for job in done),
        "tokens": statistics.mean(job["tokens"] for job in done),
        "tokens_per_second": sum(job["tokens"] for job in done) / wall,
        "sharing": statistics.mean(job["sharing"] for job in done),
        "speech_seconds": statistics.mean(job["speech"] for job in done),
        "beside_seconds": statistics.median(job["beside"] for job in done),
        "latency": {name: percentile(seconds, share) for name, share in SHARES.items()},
    }


if __name__ == "__main__":
    main()
