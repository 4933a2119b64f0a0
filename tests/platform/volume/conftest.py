"""Volumes to put faults into: on the machine's disk, and in full on a slow mount, too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.volume_world import Mounting, World, as_it_is, mounted_slowly, world

# What `make test` runs on the slow mount, too; `make faults` runs all there.
ALSO_SLOW = (
    "test_gc_removes_what_a_killed_install_left_but_not_what_another_is_at",
    "test_an_installer_that_stood_still_is_replaced_and_harms_nothing_when_it_wakes",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test run on each kind of volume."""
    also_slow = os.environ.get("FULL") or metafunc.function.__name__ in ALSO_SLOW
    if "mounting" in metafunc.fixturenames and also_slow:
        metafunc.parametrize("mounting", ["disk", "slow"], indirect=True)


@pytest.fixture
def mounting(request: pytest.FixtureRequest) -> Mounting:
    """How the test's volumes are mounted."""
    if getattr(request, "param", "disk") == "disk":
        return as_it_is
    request.getfixturevalue("slow_mount")
    return mounted_slowly


@pytest.fixture
def small_world(tmp_path: Path, mounting: Mounting) -> Iterator[World]:
    with world(tmp_path, mounting) as made:
        yield made


@dataclass(frozen=True)
class Tmpfs:
    """File systems of any size and kind, mounted as the test's volumes are."""

    folder: Path
    mounting: Mounting
    mounts: dict[Path, Path]  # as the test sees it -> the file system itself
    stack: ExitStack

    def mount(self, options: str) -> Path:
        """A new one with these options, which is taken away at the end of the test."""
        folder = self.folder / f"tmpfs-{len(self.mounts)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
        away = ["umount", "--lazy", str(folder)]
        self.stack.callback(subprocess.run, away, check=True)
        seen = self.stack.enter_context(self.mounting(folder))
        self.mounts[seen] = folder
        return seen

    def change(self, mount: Path, options: str) -> None:
        """Give one other options."""
        command = ["mount", "-o", f"remount,{options}", str(self.mounts[mount])]
        subprocess.run(command, check=True)


@pytest.fixture
def tmpfs(tmp_path: Path, mounting: Mounting) -> Iterator[Tmpfs]:
    with ExitStack() as stack:
        yield Tmpfs(tmp_path, mounting, {}, stack)
