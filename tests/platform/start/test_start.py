"""Workers that start from a busy volume, where any thread's imports may meet any other's.

Each is a process of its own, with the real torch, whisperx and SDK and the embedded model with its
aligner, until it says that it begins.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.platform.start.late_imports import LATE, PACKAGES
from tests.support.slow_volume import slow_volume
from tests.support.worker_process import NO_ALIGNER, REPOSITORY, environment, free_port
from volume.layout import Layout, pinned_revision
from volume.pins import PINS
from worker.speech.codec.upstream import find_upstream

SECONDS = 600  # that a start may take on a crowded machine
UPSTREAM = find_upstream().package


LATE_WORKER = "tests.platform.start.late_imports"
# As `volume run` starts it, from the pack that is there.
FROM_A_PACK = (
    *("tests.support.volume_program", str(PINS), "5", "60", LATE_WORKER, "-"),
    *("run", "--"),
)


def start(
    volume: Path, how: str, program: Sequence[str] = (LATE_WORKER,), **more: str
) -> tuple[bool, str]:
    """Whether a worker begins, and what it wrote until then or its end."""
    arguments = [how, "--rp_serve_api", "--rp_api_port", str(free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", *program, *arguments],
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


@pytest.fixture(scope="module")
def two_languages(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo volume with a second aligner, which is the first one's copy."""
    volume = tmp_path_factory.mktemp("two") / "volume"
    shutil.copytree(demo_volume, volume)
    layout = Layout(volume)
    place = layout.models / f"aligner-zh@{pinned_revision('aligner-zh')}"
    shutil.copytree(layout.model("demo") / "aligner", place)
    return volume


# None, one and two aligners: what a start loads, and how much of it beside each other.
LANGUAGES = (NO_ALIGNER, {"WHISPERX_LANGUAGES": "en"}, {"WHISPERX_LANGUAGES": "en,zh"})
MOUNTS = ("disk", "erratic")


def in_turns(numbers: range, started: Callable[[int], tuple[bool, str]]) -> set[str]:
    """Start workers, some of them at the same time, which must begin: what came very late."""
    with ThreadPoolExecutor(1 + (os.cpu_count() or 1)) as several:
        came = dict(zip(numbers, several.map(started, numbers), strict=True))
    failed = {number: log for number, (up, log) in came.items() if not up}
    assert not failed, "\n".join([f"{len(failed)}: {sorted(failed)}", next(iter(failed.values()))])
    lines = (line for _, log in came.values() for line in log.splitlines())
    return {line.removeprefix(LATE).split()[0] for line in lines if line.startswith(LATE)}


@pytest.mark.parametrize("mount", MOUNTS)
def test_workers_start_however_late_their_imports_and_files_are(
    two_languages: Path,
    mount: str,
    times: Callable[[int, int], int],
    request: pytest.FixtureRequest,
) -> None:
    """On a volume on the disk, and on one whose every call may be late, whoever makes it."""
    if mount == "erratic":
        request.getfixturevalue("slow_mount")
    numbers = range(MOUNTS.index(mount), times(6, 300), len(MOUNTS))

    def started(number: int) -> tuple[bool, str]:
        more = LANGUAGES[number // len(MOUNTS) % len(LANGUAGES)]
        if mount == "disk":
            return start(two_languages, str(number), **more)
        with slow_volume(two_languages, 2, erratic=number) as volume:
            return start(volume.path, str(number), **more)

    late = in_turns(numbers, started)
    if len(numbers) > 50:  # or a name that no start imports any more would stand there for ever
        other = "spark_tts_lib" if UPSTREAM == "sparktts" else "sparktts"
        assert late == {name for name in PACKAGES if not name.startswith(other)}


def test_workers_start_from_a_pack_whose_parts_are_late(
    whole_volume: Path, pack: Path, slow_mount: None
) -> None:
    """All of the environment is on the mount: what the pack lacks, and large libraries, too."""

    def started(number: int) -> tuple[bool, str]:
        more = LANGUAGES[number % 2]
        with slow_volume(whole_volume, 0.5, follow=True, erratic=number) as volume:
            up, log = start(volume.path, str(number), FROM_A_PACK, **more)
            assert volume.counts.open < 1000, log  # of the 6,000 files without a pack
        assert "start pack fails" not in log, log
        return up, log

    assert in_turns(range(1, 61), started)


@pytest.mark.parametrize(
    ("late", "early", "aligner"),
    [
        # torch comes while the SDK is being imported.
        ("runpod.serverless.utils.rp_debugger", "torch", False),
        # The aligner is loaded while upstream is being imported, and the other way round.
        (f"{UPSTREAM}.models.bicodec", "rjieba", True),
        ("rjieba", f"{UPSTREAM}.models.bicodec", True),
    ],
)
def test_what_one_thread_does_without_another_one_gets(
    demo_volume: Path, late: str, early: str, aligner: bool
) -> None:
    up, log = start(demo_volume, f"{late}:{early}", **({} if aligner else NO_ALIGNER))
    assert up, log


def test_the_cause_is_told_and_not_what_follows_from_it(demo_volume: Path) -> None:
    """torch cannot be imported a second time in a process, once it is half there."""
    up, log = start(demo_volume, "torch.fx.experimental.sym_node!", **NO_ALIGNER)
    assert not up
    (failed,) = [json.loads(line) for line in log.splitlines() if '"setup failed"' in line]
    assert failed["error"] == "OSError: the volume is gone"
    assert (
        "torch.fx.experimental.sym_node" in failed["traceback"] or "in fail" in failed["traceback"]
    )
    assert "TORCH_LIBRARY" not in log
