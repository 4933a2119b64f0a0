"""Worker processes against the stand-in queue, as RunPod runs containers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.platform.queue.server import Queue
from tests.support.worker_process import REPOSITORY


@dataclass(frozen=True)
class Usage:
    """What a process holds."""

    fds: int
    threads: int
    rss_bytes: int


class WorkerProcess:
    """One worker in a process group of its own, as a container has its processes to itself."""

    def __init__(
        self,
        queue: Queue,
        name: str,
        env: Mapping[str, str],
        log: Path,
        module: str = "worker",
        around: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        """`around` is a command that runs the one that follows it; `arguments` are the module's."""
        self.name = name
        self.log = log
        self._queue = queue
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*around, sys.executable, "-m", module, *arguments],
                env={**env, **queue.environment(name)},
                cwd=REPOSITORY,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self, seconds: float = 180.0) -> None:
        """Return when it asks for jobs; raise AssertionError with its log when it ends before."""

        def up_or_over() -> bool:
            return self.name in self._queue.workers or self.process.poll() is not None

        self._queue.wait_until(up_or_over, seconds, f"worker {self.name}")
        assert self.process.poll() is None, self.log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """The lines of the worker's own, so far. Before one may stand what the SDK prints.

        An unbuffered print writes a text and the end of its line apart.
        """
        return [json.loads(line) for line in re.findall(r'\{"time": .*', self.log.read_text())]

    def terminate(self) -> None:
        """SIGTERM to its first process, as a container gets it."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all its processes: the container is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def usage(self) -> Usage:
        """What its first process holds now. Raises AssertionError where it has ended."""
        assert self.process.poll() is None, (
            f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}"
        )
        place = Path(f"/proc/{self.process.pid}")
        pages = int((place / "statm").read_text().split()[1])
        return Usage(
            fds=len(list((place / "fd").iterdir())),
            threads=len(list((place / "task").iterdir())),
            rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        )


@contextmanager
def worker(
    queue: Queue,
    name: str,
    env: Mapping[str, str],
    folder: Path,
    module: str = "worker",
    arguments: Sequence[str] = (),
) -> Iterator[WorkerProcess]:
    """A worker that is up, until the block ends."""
    process = WorkerProcess(queue, name, env, folder / f"{name}.log", module, arguments=arguments)
    try:
        process.wait_until_up()
        yield process
    finally:
        process.kill()
