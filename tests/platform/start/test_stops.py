"""A stop at any moment of a start, for a container's first process and for any other.

The real processes: the installer, the worker with its imports and checks, and the SDK.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.platform.queue.server import Queue
from tests.platform.start.late_imports import HELD
from tests.support.first_process import AS_FIRST, first_process
from tests.support.volume_world import world
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, REPOSITORY, environment
from volume.lease import is_free, newest_claim

PROMPTLY = 20.0  # seconds, on a crowded machine; alone it takes some 0.1
UP = 300.0  # seconds that a start may take there


class Started:
    """A program, as process 1 or not, and what it writes."""

    def __init__(
        self, *arguments: str, around: Sequence[str], env: dict[str, str], log: Path
    ) -> None:
        self._log = log
        # A test run in the background of a shell has SIGINT ignored, and so would this.
        heard = ("env", "--default-signal=INT", *around)
        with log.open("wb") as out:
            self._around = subprocess.Popen(
                [*heard, sys.executable, *arguments],
                env=env, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.pid = first_process(self._around.pid) if around else self._around.pid

    def wait_for(self, true: Callable[[str], bool]) -> None:
        """Return when `true` holds of what it wrote."""

        def wrote() -> bool:
            if true(self.written):
                return True
            assert self._around.poll() is None, self.written
            return False

        until(wrote, UP, pause=0.01, said=lambda: self.written)

    def stop(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            os.kill(self.pid, number)

    def ended(self, seconds: float) -> int:
        """Its exit status as a shell has it, which must come in so many seconds."""
        status = self._around.wait(seconds)
        return status if status >= 0 else 128 - status

    @property
    def written(self) -> str:
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.splitlines() if '{"time": ' in line[:9]]

    def kill(self) -> None:
        self._around.kill()
        self._around.wait()


@contextmanager
def started(
    *arguments: str, around: Sequence[str], env: dict[str, str], log: Path
) -> Iterator[Started]:
    process = Started(*arguments, around=around, env=env, log=log)
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize("around", [AS_FIRST, ()], ids=["first", "not-first"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["worker.settings", "torch"])
def test_a_stop_is_heard_while_a_library_is_loaded(
    demo_volume: Path, tmp_path: Path, module: str, number: signal.Signals, around: Sequence[str]
) -> None:
    """By the main thread, or another; it keeps Python's lock, so that no thread can do anything."""
    late = ("-m", "tests.platform.start.late_imports", f"{module}#")
    env = environment(demo_volume)
    with started(*late, around=around, env=env, log=tmp_path / "log") as worker:
        worker.wait_for(lambda written: HELD in written)
        worker.stop(number)
        assert worker.ended(PROMPTLY) == 128 + number
        assert "Traceback" not in worker.written
        told = [(event["event"], event["reason"]) for event in worker.events]
        assert told == ([("worker ends", number.name)] if around else [])


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os._exit(0)", 0),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),  # as the kernel does without memory
        # A program of its own, which outlives its parent and is reaped, and does not end it.
        ("subprocess.run(['sh', '-c', '(sleep 0.1; exit 9) &']); time.sleep(0.3); os._exit(4)", 4),
    ],
)
def test_the_first_process_ends_as_the_program_does(end: str, status: int) -> None:
    imports = "import os, signal, subprocess, time; from volume.stops import hear_stops"
    command = [*AS_FIRST, sys.executable, "-c", f"{imports}; hear_stops(); {end}"]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=60, check=False).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_during_the_checks(
    demo_volume: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with Queue(hold_seconds=30.0).running() as queue:
        env = {**environment(demo_volume, **NO_ALIGNER), **queue.environment("first")}
        log = tmp_path / "log"
        with started("-m", "worker", around=AS_FIRST, env=env, log=log) as worker:
            worker.wait_for(lambda written: '"check": "model"' in written)
            worker.stop(number)
            assert worker.ended(PROMPTLY) == 128 + number
        assert "Traceback" not in worker.written
        assert worker.events[-1]["event"] == "worker ends"
        assert not queue.workers


def test_a_worker_that_is_up_ends_well_however_often_it_is_stopped(
    demo_volume: Path, tmp_path: Path
) -> None:
    """Its poll is held, and it does not wait for it."""
    with Queue(hold_seconds=60.0).running() as queue:
        env = {**environment(demo_volume, **NO_ALIGNER), **queue.environment("first")}
        log = tmp_path / "log"
        with started("-m", "worker", around=AS_FIRST, env=env, log=log) as worker:
            queue.wait_for_worker("first", UP)
            worker.stop(signal.SIGTERM)
            worker.wait_for(lambda written: '"drained"' in written)
            deadline = time.monotonic() + 2 * PROMPTLY
            while worker._around.poll() is None and time.monotonic() < deadline:
                worker.stop(signal.SIGTERM, signal.SIGINT)
                time.sleep(0.02)
            assert worker.ended(0) == 0
        assert "Traceback" not in worker.written
        assert [event["event"] for event in worker.events][-3:] == [
            "draining", "drained", "worker ends",
        ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_install_releases_the_lease(
    tmp_path: Path, number: signal.Signals
) -> None:
    """So that the next one goes on at once, with what there is."""
    with world(tmp_path) as here:
        here.index.rate = 2_000.0  # bytes a second: half a minute a wheel
        command = ("run", "--model", "small")
        around = ("env", "--default-signal=INT", *AS_FIRST)
        installing = here.start(*command, around=around, module="this")
        leases = here.layout.leases / f"environment-{here.environment.digest}"
        until(lambda: here.index.sent, UP, pause=0.02)
        os.kill(first_process(installing.pid), number)
        output, _ = installing.communicate(timeout=PROMPTLY)
        assert installing.returncode == 128 + number
        assert f"stopped by {number.name}" in output
        assert "Traceback" not in output
        assert newest_claim(leases) == 1
        assert is_free(leases, 1)
        here.index.rate = 1e9
        status, output = here.volume(*command, module="this")
        assert status == 0, output
        assert "Beautiful is better than ugly." in output  # what `this` says
        assert "waiting for" not in output
