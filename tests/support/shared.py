"""Folders that are made once for a session, by whichever of its processes asks first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shared:
    """A folder that all processes of a session see."""

    base: Path

    def folder(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder of that name, filled by `make`, which is given it empty.

        The others wait meanwhile. Where `make` raises, the next that asks tries anew.
        """
        self.base.mkdir(exist_ok=True)
        folder, made = self.base / name, self.base / f"{name}.made"
        with (self.base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder
