"""What HTTP adds to the first byte: the door beside the same pipeline without it, by turns.

    python -m bench.http_overhead [--rounds 40] [--checkpoint FOLDER]

Both run in this process on one engine, the same seeded request each: `encoded` in a thread, until
its first bytes; then the server on a port of the loopback, from the first byte sent to the first
byte of the answer's body. Prints the medians and the median of the differences, in milliseconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.http_door import DoorServer
from tests.support.worker_process import REPOSITORY
from volume.layout import Layout
from worker.api.openai import parse_openai
from worker.components import Components
from worker.job.context import Job
from worker.serve.http.speech_bytes import AudioBytes, encoded
from worker.settings import Settings

DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
TEXT = "My sister bought a green car last year. She opened the window and looked at the garden."
SWITCH_SECONDS = 0.0003  # as the worker's own


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_overhead")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--format", default="pcm")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(SWITCH_SECONDS)
    body = {"input": TEXT, "response_format": options.format, "voice": "alloy", "seed": 5}
    with tempfile.TemporaryDirectory() as name:
        components = _components(Path(name))
        server = DoorServer(lambda: components, spark_model="demo")
        server.start()
        server.wait_until_ready()
        alone, over_http = [], []
        try:
            for _ in range(3 + options.rounds):
                alone.append(_alone(components, body, Path(name)))
                over_http.append(_over_http(server, body))
        finally:
            server.stop()
    alone, over_http = alone[3:], over_http[3:]  # the first ones warm what is lazy
    differences = [b - a for a, b in zip(alone, over_http, strict=True)]
    print(
        f"alone {_ms(alone)} ms, over HTTP {_ms(over_http)} ms, median of the differences "
        f"{1e3 * statistics.median(differences):.2f} ms ({options.rounds} rounds, {options.format})"
    )
    return 0


def _components(folder: Path) -> Components:
    model = Layout(folder).models / "demo@bench"
    model.parent.mkdir(parents=True)
    model.symlink_to(DEMO)
    settings = Settings(
        runpod_volume=folder,
        local_storage_dir=folder / "local",
        spark_model="demo@bench",
        whisperx_languages="zh",
    )
    return Components.load(settings)


def _alone(components: Components, body: dict[str, object], folder: Path) -> float:
    """Seconds until the first bytes, in a thread as the door's."""
    found: list[float] = []

    def work() -> None:
        asked = parse_openai(body, "demo", components.voices.is_builtin)
        items = encoded(asked.request, asked.response_format, Job("bench", components, folder))
        for item in items:
            if isinstance(item, AudioBytes):
                found.append(time.perf_counter() - begun)
                break
        items.close()  # type: ignore[attr-defined] # a generator

    begun = time.perf_counter()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    time.sleep(0.1)  # the rows leave
    return found[0]


def _over_http(server: DoorServer, body: dict[str, object]) -> float:
    """Seconds until the first byte of the answer's body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.connect()
    headers = {"Content-Type": "application/json"}
    begun = time.perf_counter()
    connection.request("POST", "/v1/audio/speech", json.dumps(body), headers)
    connection.getresponse().read(1)
    seconds = time.perf_counter() - begun
    connection.close()
    while server.door.open_requests:
        time.sleep(0.01)
    time.sleep(0.1)
    return seconds


def _ms(seconds: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


if __name__ == "__main__":
    sys.exit(main())
