"""A GPU that fails: broken, a fresh worker is asked for; short of memory, the worker goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import DEMO_VOICE
from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.support.worker_process import NO_ALIGNER, environment

LONG = {
    "text": "My sister bought a green car last year. She opened the window and looked at the "
    "garden. Please read this book to the children. " * 10,
    "prompt_speech_url": "demo.wav",
    "stream": True,  # its first sentence tells that it is being spoken
}
SHORT = {**LONG, "text": "Please read this book to the children."}


@pytest.fixture
def env(demo_volume: Path, tmp_path: Path) -> dict[str, str]:
    voices = tmp_path / "storage" / "voices"
    voices.mkdir(parents=True)
    (voices / "demo.wav").write_bytes(DEMO_VOICE.read_bytes())
    samples, rate = soundfile.read(DEMO_VOICE, dtype="float32")
    quieter = np.float32(0.5) * samples
    soundfile.write(voices / "unheard.wav", quieter, rate)
    (tmp_path / "failures").mkdir()
    return environment(
        demo_volume,
        LOCAL_STORAGE_DIR=str(tmp_path / "storage"),
        FAILURES=str(tmp_path / "failures"),
        **NO_ALIGNER,
    )


@contextmanager
def failing(queue: Queue, env: dict[str, str], folder: Path) -> Iterator[WorkerProcess]:
    with worker(queue, "failing", env, folder, "tests.platform.queue.failing_gpu") as process:
        yield process


def begun(queue: Queue, name: str) -> str:
    """The job's name, once its first sentence was told of."""
    job = queue.jobs[name]
    queue.wait_until(lambda: bool(job.progress or job.stream), 90, name)
    return name


def events(process: WorkerProcess) -> list[str]:
    return [line["event"] for line in process.events()]


@pytest.mark.parametrize(("stream", "what"), [("0", "model"), ("1", "model"), ("0", "codec")])
def test_a_broken_gpu_asks_for_a_fresh_worker(
    env: dict[str, str], tmp_path: Path, stream: str, what: str
) -> None:
    """Each job that ran is told so, none is left open, and the next worker answers it."""
    env["STREAM"] = stream
    with Queue(hold_seconds=1.0).running() as queue:
        with failing(queue, env, tmp_path) as bad:
            names = [queue.put({**LONG, "seed": n}) for n in range(3)]
            names = [begun(queue, name) for name in names]
            (tmp_path / "failures" / what).touch()
            for name in names:
                job = queue.wait(name, 30)
                assert job.status == "FAILED"
                assert json.loads(job.error or "")["code"] == "device_failed"
                assert len(job.answers) == 1
                assert job.answers[0]["stopPod"] is True
            later = queue.put(SHORT)
            assert bad.process.wait(30) == 1
            assert queue.jobs[later].answers == []
            assert events(bad).count("job failed") == len(names)
            assert events(bad)[-1] == "worker ends"
        if what != "model":  # a fresh worker sees nothing of what has failed
            return
        with worker(queue, "fresh", env, tmp_path):
            assert queue.wait(later).answered_by == "fresh"
            queue.requeue(names[0])  # as its client sends it again
            job = queue.wait(names[0], 120)
            assert (job.status, job.answered_by) == ("COMPLETED", "fresh")


def test_a_short_memory_fails_one_job_in_words_and_the_worker_goes_on(
    env: dict[str, str], tmp_path: Path
) -> None:
    with Queue(hold_seconds=1.0).running() as queue, failing(queue, env, tmp_path) as process:
        beside = begun(queue, queue.put({**LONG, "text": LONG["text"][:1200]}))
        for what, about, asked in (
            ("listening_memory", "reference", {**SHORT, "prompt_speech_url": "unheard.wav"}),
            ("codec_memory", "audio of a sentence", SHORT),
        ):
            (tmp_path / "failures" / what).touch()
            job = queue.wait(queue.put(asked, what), 60)
            assert job.status == "FAILED"
            error = json.loads(job.error or "")
            assert error["code"] == "out_of_memory"
            assert about in error["message"]
            assert "stopPod" not in job.answers[0]
            (tmp_path / "failures" / what).unlink()
            if what == "listening_memory":
                assert queue.wait(beside, 120).status == "COMPLETED"
            queue.requeue(what)  # as its client sends it again
            assert queue.wait(what, 60).status == "COMPLETED"
        assert not {"draining", "worker ends"} & set(events(process))
        assert events(process).count("out of memory") == 4  # each beside, then alone
        assert "Traceback" not in process.log.read_text()
