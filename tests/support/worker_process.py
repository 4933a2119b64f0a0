"""The worker as its users start it: real processes, with a volume and a port of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import until

REPOSITORY = Path(__file__).parents[2]
# Of a worker that need not time words: half of what it imports is for that. It takes the language
# that the demo volume has no aligner for.
NO_ALIGNER = {"WHISPERX_LANGUAGES": "zh"}
LOOPBACK_ONLY = Path(__file__).parent / "loopback_only"


def environment(volume: Path, **more: str) -> dict[str, str]:
    """What a worker process of the tests runs with: no credentials of this machine, no way out."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "S3_", "RUNPOD_"))}
    return {
        **kept,
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{LOOPBACK_ONLY}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RUNPOD_VOLUME": str(volume),
        "SPARK_MODEL": "demo",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
        **more,
    }


def run(
    *arguments: str, env: Mapping[str, str], cwd: Path = REPOSITORY, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, to its end, which must come within so many seconds."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=dict(env),
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=seconds,
        check=False,
    )


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(env: Mapping[str, str], log: Path) -> Iterator[str]:
    """`python -m worker --rp_serve_api`, as a URL, until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "worker", "--rp_serve_api", "--rp_api_port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=dict(env), cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://localhost:{port}"
            wait_until_up(process, url, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_until_up(
    process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 180
) -> None:
    """Wait until the SDK's server answers; raise AssertionError with the log when it does not."""

    def up() -> bool:
        assert process.poll() is None, f"the worker ended with {process.returncode}:\n{written()}"
        try:
            urllib.request.urlopen(f"{url}/docs", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def written() -> str:
        return log.read_text()

    until(up, seconds, pause=0.2, said=written)


def post(url: str, body: Any) -> dict[str, Any]:
    """POST JSON, get JSON."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return dict(json.load(answer))
