"""Workers that start from a busy volume, where any thread's imports may meet any other's.

Each is a process of its own, with the real torch, transformers, whisperx and SDK and the embedded
model with its aligner, until it says that it begins.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.worker_process import NO_ALIGNER, REPOSITORY, environment, free_port
from worker.speech.codec.upstream import find_upstream

SECONDS = 600  # that a start may take on a crowded machine
UPSTREAM = find_upstream().package


def start(volume: Path, how: str, *, aligner: bool) -> tuple[bool, str]:
    """Whether a worker begins, and what it wrote until then or its end."""
    more = {} if aligner else NO_ALIGNER
    arguments = [how, "--rp_serve_api", "--rp_api_port", str(free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.platform.start.late_imports", *arguments],
        env=environment(volume, OMP_WAIT_POLICY="PASSIVE", **more),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    written = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            written.append(line)
            if '"event": "worker begins"' in line:
                return True, "".join(written)
        assert process.wait(SECONDS) == 1
        return False, "".join(written)
    finally:
        process.kill()
        process.wait()


def test_workers_start_however_late_their_imports_are(
    demo_volume: Path, times: Callable[[int, int], int]
) -> None:
    """Every second one without an aligner, which is the slowest of all that is imported."""
    numbers = range(times(10, 300))
    with ThreadPoolExecutor(1 + (os.cpu_count() or 1)) as several:
        started = several.map(
            lambda number: start(demo_volume, str(number), aligner=number % 2 == 0), numbers
        )
        failed = {number: log for number, (up, log) in zip(numbers, started, strict=True) if not up}
    assert not failed, "\n".join([f"{len(failed)}: {sorted(failed)}", next(iter(failed.values()))])


@pytest.mark.parametrize(
    ("late", "early", "aligner"),
    [
        # torch comes while the SDK is being imported.
        ("runpod.serverless.utils.rp_debugger", "torch", False),
        # transformers, which brings torch's compiler, comes while upstream is being imported.
        (f"{UPSTREAM}.models.bicodec", "transformers.models.wav2vec2.modeling_wav2vec2", True),
    ],
)
def test_what_one_thread_does_without_another_one_gets(
    demo_volume: Path, late: str, early: str, aligner: bool
) -> None:
    up, log = start(demo_volume, f"{late}:{early}", aligner=aligner)
    assert up, log


def test_the_cause_is_told_and_not_what_follows_from_it(demo_volume: Path) -> None:
    """torch cannot be imported a second time in a process, once it is half there."""
    up, log = start(demo_volume, "torch._meta_registrations!", aligner=False)
    assert not up
    (failed,) = [json.loads(line) for line in log.splitlines() if '"setup failed"' in line]
    assert failed["error"] == "OSError: the volume is gone"
    assert "torch._meta_registrations" in failed["traceback"] or "in fail" in failed["traceback"]
    assert "TORCH_LIBRARY" not in log
