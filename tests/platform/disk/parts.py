"""The cache of kernels and the volume on full disks: python -m tests.platform.disk.parts FOLDER.

Wants mounts of its own. Prints a line of JSON for each: what it gave or said, and what is left.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.platform.disk.jobs import small_disk
from volume.__main__ import main as volume
from worker.speech.native.build import open_library
from worker.speech.native.wave import WaveKernel


def kernel(folder: Path) -> object:
    """A compiled kernel, whose cache is full; None: torch's serve."""
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return open_library(replace(WaveKernel.interface, extensions=()))


def install(folder: Path) -> object:
    """The exit status of an install."""
    os.environ["RUNPOD_VOLUME"] = str(folder)
    return volume(["--attempts", "1", "install", "--model", "demo"])


def main(folder: Path) -> None:
    parts: tuple[Callable[[Path], object], ...] = (kernel, install)
    for part in parts:
        for size in (0, 8, 64, 1000):
            with small_disk(folder, size):
                given = part(folder)
                left = [path.name for path in folder.rglob("*") if path.is_file()]
            told = {"part": part.__name__, "size": size, "given": given, "left": left}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
