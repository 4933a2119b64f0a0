"""Temporary folders of this process, and those that killed ones left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_SCRATCH = "spark-tts-"


def scratch_prefix() -> str:
    """How the names of this process's temporary folders begin."""
    return f"{_SCRATCH}{os.getpid()}-"


def sweep_scratch() -> None:
    """Remove the temporary folders of workers that were killed on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*-*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        # Our own number too: in a container, each worker has the same.
        if owner.isdigit() and (int(owner) == os.getpid() or not Path(f"/proc/{owner}").exists()):
            shutil.rmtree(folder, ignore_errors=True)
