"""A CUDA context that breaks: the worker says so, asks for a fresh one, and ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.platform.queue.server import Queue
from tests.platform.queue.workers import worker
from tests.support.worker_process import environment

LONG = {
    "text": "My sister bought a green car last year. She opened the window and looked at the "
    "garden. Please read this book to the children. " * 40,
    "prompt_speech_url": "demo.wav",
    "stream": True,  # its first sentence tells that it is being spoken
}


@pytest.mark.parametrize(("stream", "what"), [("0", "model"), ("1", "model"), ("0", "codec")])
def test_a_broken_gpu_asks_for_a_fresh_worker(
    demo_volume: Path, tmp_path: Path, stream: str, what: str
) -> None:
    """Each job that ran is told so, none is left open, and the next worker answers it."""
    breaks = tmp_path / "break"
    env = environment(demo_volume, STREAM=stream, LOCAL_STORAGE_DIR=str(tmp_path / "storage"))
    voices = tmp_path / "storage" / "voices"
    voices.mkdir(parents=True)
    demo = Path(__file__).parents[3] / "volume" / "demo" / "voices" / "demo.wav"
    (voices / "demo.wav").write_bytes(demo.read_bytes())
    broken_env = {**env, "BREAK_WHEN": str(breaks), "BREAK_WHAT": what}
    with Queue(hold_seconds=1.0).running() as queue:
        with worker(
            queue, "broken", broken_env, tmp_path, "tests.platform.queue.broken_gpu"
        ) as bad:
            names = [queue.put({**LONG, "seed": n}) for n in range(3)]
            for name in names:
                job = queue.jobs[name]
                queue.wait_until(lambda job=job: bool(job.progress or job.stream), 90, name)
            breaks.touch()
            for name in names:
                job = queue.wait(name, 30)
                assert job.status == "FAILED"
                assert json.loads(job.error or "")["code"] == "device_failed"
                assert len(job.answers) == 1
                assert job.answers[0]["stopPod"] is True
            later = queue.put({**LONG, "text": "Please read this book to the children."})
            assert bad.process.wait(30) == 1
            assert queue.jobs[later].answers == []
            lines = bad.log.read_text()
            events = [json.loads(li)["event"] for li in lines.splitlines() if li.startswith("{")]
            assert events.count("job failed") == len(names)
            assert events[-1] == "worker ends"
        with worker(queue, "fresh", env, tmp_path):
            assert queue.wait(later).answered_by == "fresh"
            queue.requeue(names[0])  # as its client sends it again
            job = queue.wait(names[0], 120)
            assert (job.status, job.answered_by) == ("COMPLETED", "fresh")
