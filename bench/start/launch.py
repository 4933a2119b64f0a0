"""One start of one worker, from nothing to its first job."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.start.material import PACKAGES, StartMaterial
from bench.start.places import Place
from bench.start.queue import OneJob, one_job
from tests.support.slow_volume import Counts
from tests.support.worker_process import LOOPBACK_ONLY, REPOSITORY, environment

PATIENCE = 900.0  # seconds for a worker to ask for a job, or to answer it
JOB = {
    "id": "first",
    "input": {"text": "The winter.", "max_length": 64, "seed": 1, "enable_whisperx": True},
}


@dataclass(frozen=True)
class Started:
    """What one start took."""

    accepted: float  # seconds until the worker asked for a job, which it got at once
    answered: float | None  # until the job's answer had come
    accepted_counts: Counts | None  # what was asked of the volume until then
    answered_counts: Counts | None
    stages: dict[str, float] = field(default_factory=dict)  # seconds, as the worker tells them
    began: dict[str, float] = field(default_factory=dict)  # when each did


@dataclass(frozen=True)
class Launcher:
    """How both sides' workers are started."""

    material: StartMaterial
    scratch: Path
    dtype: str  # of ours
    bucket: Mapping[str, str]  # variables

    def ours(self, place: Place) -> Started:
        """`python -m volume run`, as in the image."""
        command = ["-m", "volume", "run"]
        code = [self.material.app]
        with self._worker("ours", command, code, place, JOB) as (process, queue, started, log):
            self._wait(process, queue.asked, "asked for no job", log)
            _check_mapped(process.pid, place)
            before = place.counts
            self._wait(process, queue.answered, "answered no job", log)
            after = place.counts
            if "error" in queue.answer:
                raise RuntimeError(f"ours could not do the job:\n{queue.answer['error']}")
            told = _told(log)
            return Started(
                accepted=queue.asked_at - started,
                answered=queue.answered_at - started,
                accepted_counts=before,
                answered_counts=after,
                stages=told["stages"],
                began=told["began"],
            )

    def theirs(self, place: Place) -> Started:
        """Upstream's least worker, with the same packages from the same place."""
        folders = [self.material.folder, *self.material.aligners]
        paths = [str(place.volume / folder) for folder in folders]
        code = [self.material.site_packages(place.volume), REPOSITORY]
        command = ["-m", "bench.their_worker", *paths]
        with self._worker("theirs", command, code, place, None) as (process, queue, started, log):
            self._wait(process, queue.asked, "asked for no job", log)
            _check_mapped(process.pid, place)
            return Started(queue.asked_at - started, None, place.counts, None)

    def install(self) -> None:
        """Have made what a first start makes: nothing of it is measured."""
        done = subprocess.run(
            [self.material.python, "-m", "volume", "install"],
            env=self.variables(self.material.volume, [self.material.app]),
            text=True, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the volume could not be installed:\n{done.stderr}")

    def variables(self, volume: Path, code: list[Path]) -> dict[str, str]:
        """Those of a worker on this volume, which finds `code` and nothing else by itself."""
        if str(LOOPBACK_ONLY) in os.environ.get("PYTHONPATH", ""):  # of a test
            code = [*code, LOOPBACK_ONLY]
        variables = environment(
            volume,
            SPARK_MODEL=self.material.model,
            SPARK_DTYPE=self.dtype,
            WHISPERX_LANGUAGES=self.material.languages,
            PYTHONPATH=os.pathsep.join(map(str, code)),
            PYTHONNOUSERSITE="1",
            PYTHONSAFEPATH="1",
            **self.bucket,
        )
        # What one start compiles the next one has, as what is installed has it.
        return {n: v for n, v in variables.items() if n != "PYTHONDONTWRITEBYTECODE"}

    @contextmanager
    def _worker(
        self, side: str, command: list[str], code: list[Path], place: Place,
        job: dict[str, Any] | None,
    ) -> Iterator[tuple[subprocess.Popen[bytes], OneJob, float, Path]]:  # fmt: skip
        """The worker's process, its queue, when it was begun and its log, until the block ends."""
        log = self.scratch / f"{side}.log"
        with one_job(job) as queue, log.open("wb") as out:
            env = self.variables(place.volume, code) | queue.variables()
            started = time.perf_counter()
            process = subprocess.Popen(
                [self.material.python, *command],
                env=env, cwd=self.scratch, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                yield process, queue, started, log
            finally:
                process.kill()
                process.wait()

    def _wait(
        self, process: subprocess.Popen[bytes], happened: Any, missing: str, log: Path
    ) -> None:
        until = time.perf_counter() + PATIENCE
        while not happened.wait(0.02):
            if process.poll() is not None or time.perf_counter() > until:
                raise RuntimeError(f"{log.stem} {missing}:\n{log.read_text()[-8000:]}")


def _check_mapped(pid: int, place: Place) -> None:
    """Raise RuntimeError where a worker has libraries from beside its slow mount."""
    if place.counts is None:
        return
    mapped = Path(f"/proc/{pid}/maps").read_text()
    if str(PACKAGES) in mapped or str(place.volume) not in mapped:
        raise RuntimeError(f"process {pid} does not read its packages from {place.volume}")


def _told(log: Path) -> dict[str, Any]:
    """The line in which our worker tells of its start."""
    for line in log.read_text().splitlines():
        if '"worker started"' in line:
            return dict(json.loads(line))
    raise RuntimeError(f"ours said nothing of its start:\n{log.read_text()[-8000:]}")
