"""The worker that is asked: a real process, and what it holds of the machine."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.worker_process import REPOSITORY, free_port

START_SECONDS = 180


@dataclass(frozen=True)
class Holds:
    """What a process holds."""

    megabytes: float  # of memory of its own and shared
    threads: int
    handles: int


@dataclass(frozen=True)
class Worker:
    """A worker that answers."""

    url: str
    pid: int

    def holds(self) -> Holds:
        """What it holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = {
            name: rest.split() for name, rest in (x.split(":", 1) for x in status.splitlines())
        }
        handles = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return Holds(int(fields["VmRSS"][0]) / 1024, int(fields["Threads"][0]), handles)


@contextmanager
def http_worker(env: Mapping[str, str], log: Path) -> Iterator[Worker]:
    """`python -m worker --http`, ready, until the block ends."""
    port = free_port()
    env = {**env, "PORT": str(port), "HTTP_HOST": "127.0.0.1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "--http"],
            env=env,
            cwd=REPOSITORY,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url, log)
            yield Worker(url, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the worker ended:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
                if answer.status == 200:
                    return
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    raise RuntimeError(
        f"the worker is not ready after {START_SECONDS} s:\n{log.read_text()[-2000:]}"
    )
