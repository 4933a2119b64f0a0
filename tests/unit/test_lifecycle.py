"""How many jobs at once, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from worker.cancellation import Cancellation
from worker.lifecycle import (
    Concurrency,
    RunningJobs,
    host_memory_free,
    scratch_prefix,
    sweep_scratch,
)


class Memory:
    def __init__(self, free: float) -> None:
        self.free = free

    def __call__(self) -> float:
        return self.free


def test_concurrency_follows_the_memory() -> None:
    async def numbers() -> list[int]:
        running, memory = RunningJobs(), Memory(0.2)
        modifier = Concurrency(8, running, memory)
        seen = [modifier(1)]  # the SDK begins with one
        memory.free = 0.05
        seen += [modifier(8), modifier(4)]
        memory.free = 0.2  # neither short nor plenty
        seen.append(modifier(2))
        memory.free = 0.9
        busy = asyncio.ensure_future(asyncio.sleep(0.05))

        async def job() -> None:
            running.enter(Cancellation())
            await busy

        task = asyncio.create_task(job())
        await asyncio.sleep(0)
        seen.append(modifier(2))  # a change would keep new jobs waiting for this one
        await task
        await asyncio.sleep(0)
        seen.append(modifier(2))
        return seen

    assert asyncio.run(numbers()) == [8, 4, 2, 2, 2, 8]


def test_it_begins_with_less_when_memory_is_short_already() -> None:
    async def number() -> int:
        return Concurrency(8, RunningJobs(), Memory(0.01))(1)

    assert asyncio.run(number()) == 1


def test_the_memory_of_this_machine_is_a_share() -> None:
    assert 0 < host_memory_free() <= 1


def test_the_end_of_a_task_cancels_its_job() -> None:
    """Also where the SDK's task ends while a generator waits to be asked for more."""
    cancellation = Cancellation()

    async def job(running: RunningJobs) -> None:
        running.enter(cancellation)
        await asyncio.sleep(60)

    async def cancelled() -> bool:
        running = RunningJobs()
        task = asyncio.create_task(job(running))
        await asyncio.sleep(0)
        assert not running.idle
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return running.idle

    assert asyncio.run(cancelled())
    assert cancellation.cancelled


def test_folders_of_killed_workers_are_swept_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [f"spark-tts-{os.getppid()}-a", "spark-tts-notes", "other"]
    swept = [f"spark-tts-{gone.pid}-a", f"{scratch_prefix()}old"]
    for name in kept + swept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "speech.wav").touch()
    sweep_scratch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
