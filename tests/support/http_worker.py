"""A worker with the HTTP door, as its users start it: `python -m worker --http`."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import until
from tests.support.worker_process import REPOSITORY, free_port

ENDING_SECONDS = 45  # the drain, and what is forced after it


@dataclass(frozen=True)
class HttpWorker:
    """A worker's process that listens on a port of the loopback."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path  # what it writes to standard error, and to standard output

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def written(self) -> str:
        """What it has written until now."""
        return self.log.read_text()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The events that it has logged, all or those of this name."""
        lines = [json.loads(line) for line in self.written().splitlines() if line[:1] == "{"]
        return [line for line in lines if name in (None, line["event"])]

    def health(self) -> int | None:
        """The status that /ping answers; None where nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until_ready(self, seconds: float = 180) -> None:
        """Wait until it takes requests; raise AssertionError with its log where it never does."""

        def ready() -> bool:
            code = self.process.poll()
            assert code is None, f"the worker ended with {code}:\n{self.written()}"
            return self.health() == 200

        until(ready, seconds, pause=0.1, said=self.written)

    def stop(self) -> int:
        """Send SIGTERM; give the exit status."""
        self.process.terminate()
        return self.process.wait(ENDING_SECONDS)


@contextmanager
def starting(
    env: Mapping[str, str], folder: Path, *arguments: str, module: Sequence[str] = ("worker",)
) -> Iterator[HttpWorker]:
    """`python -m worker --http` with its storage below `folder`; it may not listen yet.

    `module`, with arguments of its own, is what runs the worker. It is stopped at the end of the
    block, and killed where it does not end by that.
    """
    port = free_port()
    log = folder / "worker.log"
    own = {"PORT": str(port), "HTTP_HOST": "127.0.0.1", "LOCAL_STORAGE_DIR": str(folder / "local")}
    command = [sys.executable, "-m", *module, "--http", *arguments]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env={**own, **env}, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT
        )
    worker = HttpWorker(process, port, log)
    try:
        yield worker
    finally:
        try:
            if process.poll() is None:
                worker.stop()
        finally:
            process.kill()
            process.wait()


@contextmanager
def http_serving(env: Mapping[str, str], folder: Path) -> Iterator[HttpWorker]:
    """The same, once it takes requests."""
    with starting(env, folder) as worker:
        worker.wait_until_ready()
        yield worker
