"""What a job costs a real worker does not grow with what it asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEMO_VOICE
from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess
from tests.support.worker_process import environment

HOUR = 3600
DATA_BYTES = 3 << 30  # that the worker may have at all, as in a small container
LINES = {"text": "a\n" * 600, "multi_sentence_gap": 5, "max_length": 64, "temperature": 0}
PROSE = (
    "It was a bright cold day in April, and the clocks were striking thirteen. The hallway smelt "
    "of boiled cabbage and old rag mats. " * 150
)
JOBS: list[dict[str, Any]] = [
    {**LINES, "stream": True, "output_name": "x" * 64},
    {"text": PROSE, "speed_shift": 0.5, "multi_sentence_gap": 4, "output_format": "mp3"},
    {**LINES, "text": "a\n" * 1_000, "output_format": "flac"},
    {"text": PROSE, "speed_shift": 0.5, "multi_sentence_gap": 4, "task_token": "continue"}
    | {"prompt_speech_url": "demo.wav", "prompt_text": "Please read this book."},
]


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue(hold_seconds=1.0).running() as running:
        yield running


@pytest.fixture(scope="module")
def one(
    queue: Queue, demo_volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("memory")
    voices = folder / "storage" / "voices"
    voices.mkdir(parents=True)
    (voices / "demo.wav").write_bytes(DEMO_VOICE.read_bytes())
    env = environment(demo_volume, LOCAL_STORAGE_DIR=str(folder / "storage"), TMPDIR=str(folder))
    limit = ("prlimit", f"--data={DATA_BYTES}")
    process = WorkerProcess(queue, "one", env, folder / "one.log", around=limit)
    try:
        process.wait_until_up()
        yield process
    finally:
        process.kill()


def test_an_hour_takes_at_most_300_mb_above_the_idle_worker_and_progress_is_told_once(
    queue: Queue, one: WorkerProcess, times: Callable[[int, int], int]
) -> None:
    assert queue.wait(queue.put({"text": "Hello there."})).status == "COMPLETED"
    forget_peak(one)
    idle = peak(one)
    for asked in JOBS[: times(1, len(JOBS))]:
        forget_peak(one)
        job = queue.wait(queue.put(asked), 600)
        assert job.status == "COMPLETED", job.error
        assert job.output["duration"] > 0.9 * HOUR
        above = peak(one) - idle
        print(f"{job.output['duration']:.0f} s of audio: {above >> 20} MB above the idle worker")
        assert above < 300 << 20
        sentences = job.output["metrics"]["sentences"]
        told = [segment["index"] for update in job.progress for segment in update["segments"]]
        assert told == (list(range(sentences)) if asked.get("stream") else [])
        said = [len(json.dumps(update)) for update in job.progress]
        assert max(said, default=0) < 50_000
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
    with suppress(OSError):  # a kernel that cannot: then the peak is that of the load
        Path(f"/proc/{process.process.pid}/clear_refs").write_text("5")


def peak(process: WorkerProcess) -> int:
    """Bytes of memory that it had at most since `forget_peak`."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
