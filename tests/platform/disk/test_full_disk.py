"""A full disk: a job is answered whole, or fails in words; what is only a help costs no job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker import cpu_info
from worker.speech.native.build import BASELINE_FLAGS

ROOT = Path(__file__).parents[3]
NAMESPACES = (["unshare", "-m"], ["unshare", "-r", "-m"])


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """A command's begin that gives it mounts of its own; empty where the machine allows none."""
    for command in NAMESPACES:
        probe = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return command
    return []


@pytest.fixture(scope="session")
def jobs(
    own_mounts: list[str], tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What came of each job."""
    folder = tmp_path_factory.mktemp("full")
    places = [*(("scratch", "output", "cache") if own_mounts else ()), "files"]
    command = [*own_mounts, sys.executable, "-m", "tests.platform.disk.jobs"]
    done = subprocess.run(
        [*command, str(folder), str(tiny_checkpoint), *places],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(jobs: list[dict[str, Any]]) -> dict[str, int]:
    """How many were answered, and how many failed, by where the disk was full."""
    found: dict[str, int] = {}
    for job in jobs:
        answer, where = job["answer"], job["place"]
        assert job["left"] == [], job
        if "error" in answer:
            error = json.loads(answer["error"])
            assert error["code"] == "storage_failed", job
            assert len(error["message"]) > 20
            assert "/" not in error["message"].replace("output/", "").replace("voices/", ""), job
            assert "refresh_worker" not in answer
            outcome = f"{where} failed"
        else:
            assert abs(job["heard"] - answer["duration"]) < 0.06, job
            outcome = f"{where} answered"
        found[outcome] = found.get(outcome, 0) + 1
    return found


def test_where_the_scratch_the_bucket_or_the_cache_is_full(
    jobs: list[dict[str, Any]], own_mounts: list[str]
) -> None:
    if not own_mounts:
        pytest.skip("the machine allows no mounts of one's own")
    found = check([job for job in jobs if job["place"] != "files"])
    assert found.keys() == {
        "scratch failed", "scratch answered", "output failed", "output answered", "cache answered"
    }  # fmt: skip
    words = [json.loads(job["answer"]["error"])["message"] for job in jobs if job["heard"] is None]
    assert any("the worker's own disk failed (No space left on device)" in text for text in words)


def test_where_files_may_not_grow(jobs: list[dict[str, Any]]) -> None:
    """As a disk that is full within a file, on machines that allow no mounts too."""
    found = check([job for job in jobs if job["place"] == "files"])
    assert found.keys() == {"files failed", "files answered"}


def test_where_the_cache_of_kernels_or_the_volume_is_full(
    tmp_path: Path, own_mounts: list[str]
) -> None:
    if not own_mounts:
        pytest.skip("the machine allows no mounts of one's own")
    command = [*own_mounts, sys.executable, "-m", "tests.platform.disk.parts", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == 2 * 4
    for part in found:
        if part["part"] == "kernel":
            assert (part["given"], part["left"]) == (None, [])  # torch's kernels serve
        else:
            assert part["given"] == 5, part  # FullError
    assert "Traceback" not in done.stderr
    if cpu_info.flags() >= BASELINE_FLAGS:
        assert done.stderr.count("kernel could not be built") == 4
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 4
    assert all("full" in line or "does not fit" in line for line in told), told
