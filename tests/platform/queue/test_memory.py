"""What a job costs a real worker does not grow with what it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.support.worker_process import environment

HOUR = 3600
SENTENCES = 600
LONG = {"text": "a\n" * SENTENCES, "multi_sentence_gap": 5, "max_length": 64, "temperature": 0}


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue(hold_seconds=1.0).running() as running:
        yield running


@pytest.fixture(scope="module")
def one(
    queue: Queue, demo_volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("memory")
    env = environment(demo_volume, LOCAL_STORAGE_DIR=str(folder / "storage"), TMPDIR=str(folder))
    with worker(queue, "one", env, folder) as process:
        yield process


def test_an_hour_takes_at_most_300_mb_above_the_idle_worker_and_progress_is_told_once(
    queue: Queue, one: WorkerProcess
) -> None:
    warm = queue.wait(queue.put({"text": "Hello there."}))
    assert warm.status == "COMPLETED"
    idle = one.usage().rss_bytes
    forget_peak(one)
    job = queue.wait(queue.put({**LONG, "stream": True, "output_name": "x" * 64}), 300)
    assert job.status == "COMPLETED", job.error
    assert job.output["duration"] > 0.97 * HOUR
    assert job.output["metrics"]["sentences"] == SENTENCES
    assert peak(one) - idle < 300 << 20
    told = [segment["index"] for update in job.progress for segment in update["segments"]]
    assert told == list(range(SENTENCES))
    said = [len(json.dumps(update)) for update in job.progress]
    assert max(said) < 50_000
    assert sum(said) < 2 * len(json.dumps(job.output))


def test_what_would_take_more_than_a_job_may_have_is_refused_and_the_worker_goes_on(
    queue: Queue, one: WorkerProcess
) -> None:
    refused = queue.wait(queue.put({"text": "a\n" * 10_000, "multi_sentence_gap": 5}), 30)
    assert refused.status == "FAILED"
    told = json.loads(str(refused.error))
    assert (told["code"], told["field"]) == ("invalid_request", "text")
    assert "10000 sentences" in told["message"]
    assert "7200" in told["message"]
    assert queue.wait(queue.put({"text": "Hello there."}), 60).status == "COMPLETED"


def forget_peak(process: WorkerProcess) -> None:
    Path(f"/proc/{process.process.pid}/clear_refs").write_text("5")


def peak(process: WorkerProcess) -> int:
    """Bytes of memory that it had at most since `forget_peak`."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
