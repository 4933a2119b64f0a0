"""Whole starts: `python -m volume run` from a volume that has everything, to one job's answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.worker_process import REPOSITORY, environment
from volume.layout import Layout
from volume.pins import pinned_environment
from volume.start_pack.key import pack_key
from volume.start_pack.pack import NAME

SECONDS = 300  # that a start with its job may take on a crowded machine
JOB = {"id": "first", "input": {"text": "Yes.", "max_length": 64, "seed": 1}}
ENGLISH = {"WHISPERX_LANGUAGES": "en"}  # of which the demo model has an aligner of its own


def lay_out(volume: Path, demo_volume: Path) -> None:
    """Make a volume of the demo model, and of the development environment as the pinned one.

    The environment is a link, to be mounted with `follow`.
    """
    shutil.copytree(demo_volume, volume, dirs_exist_ok=True)
    site = Layout(volume).site_packages(pinned_environment().digest)
    site.parent.mkdir(parents=True)
    site.symlink_to(Path(sysconfig.get_path("purelib")).resolve())


def pack_of(volume: Path) -> Path:
    """The place of the start pack on such a volume."""
    return Layout(volume).starts / pack_key(pinned_environment().digest) / NAME


@dataclass(frozen=True)
class Start:
    """What came of a start."""

    status: int
    written: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The worker's events, in order."""
        lines = self.written.splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time": ')]

    def told(self, name: str) -> list[dict[str, Any]]:
        """The events of this name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def answered(self) -> bool:
        """Whether the job was answered with speech, and the worker ended well."""
        return self.status == 0 and len(self.told("job answered")) == 1


def start(
    volume: Path,
    *,
    around: Sequence[str] = (),
    meanwhile: Callable[[subprocess.Popen[str]], object] = lambda process: None,
    **variables: str,
) -> Start:
    """Start a worker that is given one job; `meanwhile` is called once it has been begun."""
    command = ("-m", "volume", "run", "--", "--test_input", json.dumps(JOB))
    with subprocess.Popen(
        [*around, sys.executable, *command],
        env=environment(volume, **(ENGLISH | variables)), cwd=REPOSITORY,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            meanwhile(process)
            written, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return Start(process.returncode, written)
