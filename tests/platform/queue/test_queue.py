"""The real SDK in a real worker process, against the stand-in for RunPod's queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.support.worker_process import environment

SAID = {"text": "Please read this book to the children.", "prompt_speech_url": "demo.wav"}


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue(hold_seconds=1.0).running() as running:
        yield running


@pytest.fixture(scope="module")
def one_worker(
    queue: Queue, demo_volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    with worker(queue, "one", environment(demo_volume), tmp_path_factory.mktemp("log")) as process:
        yield process


def test_a_job_is_taken_and_answered(queue: Queue, one_worker: WorkerProcess) -> None:
    job = queue.wait(queue.put(SAID))
    assert job.status == "COMPLETED"
    assert len(job.answers) == 1
    assert job.output["duration"] > 0.5


def test_an_error_is_the_jobs_failure(queue: Queue, one_worker: WorkerProcess) -> None:
    job = queue.wait(queue.put({"text": "Hello.", "speed": "fast"}))
    assert job.status == "FAILED"
    assert "speed" in (job.error or "")
