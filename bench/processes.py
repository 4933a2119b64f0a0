"""Cases (e) and (f): from the start of a process to its first job, and its memory at most."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from bench.material import MODEL
from bench.sides import Sides
from tests.support.worker_process import REPOSITORY, environment, run

PATIENCE = 300  # seconds for a worker to come up


def start(sides: Sides) -> dict[str, Any]:
    """(e) From the start of the process to the first request for a job; page cache warm."""
    sides.unload()
    commands = {
        "theirs": ["bench.their_worker", str(sides.material.checkpoint)],
        "ours": ["worker"],
    }
    taken: dict[str, list[float]] = {side: [] for side in commands}
    for number in range(-sides.scale.warming_starts, sides.scale.starts):
        for side, command in commands.items():
            needed = _until_ready(sides, side, command)
            if number >= 0:
                taken[side].append(needed)
    theirs, ours = (statistics.median(taken[side]) for side in ("theirs", "ours"))
    return {
        "theirs": round(theirs, 2),
        "ours": round(ours, 2),
        "times": round(theirs / ours, 2),
        "rounds": taken,
    }


def memory(sides: Sides) -> dict[str, Any]:
    """(f) Resident memory at most, files that are mapped included: load, clone, speak."""
    sides.unload()
    material, scale = sides.material, sides.scale
    found: dict[str, Any] = {}
    for side in ("theirs", "ours"):
        done = run(
            *("-m", "bench.speaker", side, str(material.checkpoint)),
            *(str(material.reference), str(scale.long_tokens), sides.device, sides.dtype),
            env=compiling(environment(material.volume)),
        )
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr}")
        found[side] = json.loads(done.stdout.splitlines()[-1])
    share = found["ours"]["peak"] / found["theirs"]["peak"]
    return {
        "theirs": round(found["theirs"]["peak"] / 2**20),
        "ours": round(found["ours"]["peak"] / 2**20),
        "share": round(share, 3),
        "processes": found,
    }


def _until_ready(sides: Sides, side: str, command: list[str]) -> float:
    """Seconds until the worker asks for its first job."""
    with _queue() as (url, asked), (sides.material.scratch / f"{side}.log").open("w+") as log:
        env = environment(
            sides.material.volume,
            SPARK_MODEL=MODEL,
            SPARK_DTYPE=sides.dtype,
            RUNPOD_WEBHOOK_GET_JOB=f"{url}/job-take/$ID?gpu=none",
            RUNPOD_WEBHOOK_POST_OUTPUT=f"{url}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            RUNPOD_POD_ID="bench",
        )
        env = compiling(env)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=env, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while not asked.wait(0.02):
                if process.poll() is not None or time.perf_counter() - started > PATIENCE:
                    log.seek(0)
                    raise RuntimeError(f"{side} asked for no job:\n{log.read()}")
            return time.perf_counter() - started
        finally:
            process.kill()
            process.wait()


def compiling(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that keeps bytecode, as installed packages have it."""
    return {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def _queue() -> Iterator[tuple[str, Event]]:
    """A stand-in for the platform's queue, which is empty: its URL, and whether it was asked."""
    asked, closing = Event(), Event()

    class Queue(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/job-take" in self.path:
                asked.set()
                closing.wait(10)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Queue)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
