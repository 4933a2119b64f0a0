"""Volumes to put faults into."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.shared import Shared
from tests.support.volume_world import World, world


@pytest.fixture
def small_world(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def kernels(made_once: Shared) -> Path:
    """The kernels for GPUs as an install compiles them, half a minute's work: to be copied."""

    def compile_all(folder: Path) -> None:
        command = [sys.executable, "-m", "worker.speech.cuda.cubins", str(folder)]
        subprocess.run(command, check=False, capture_output=True, timeout=600)

    return made_once.folder("cubins", compile_all)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs with these options, and at the end take it away again."""
    mounts = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"tmpfs-{len(mounts)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
        mounts.append(folder)
        return folder

    yield mount
    for folder in mounts:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
