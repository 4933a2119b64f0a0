"""The temporary folders of this process, and those that killed processes have left."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from worker.errors import SetupError

_PREFIX = "spark-tts-"


def temp_prefix() -> str:
    """How the names of this process's temporary folders begin."""
    return f"{_PREFIX}{os.getpid()}-"


def remove_abandoned_folders() -> None:
    """Remove the temporary folders of workers that were killed on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        # Our own number too: in a container, each worker has the same.
        if owner.isdigit() and (int(owner) == os.getpid() or not Path(f"/proc/{owner}").exists()):
            shutil.rmtree(folder, ignore_errors=True)


def check_temp_folder() -> None:
    """Raise SetupError where TMPDIR is no use: Python would take another folder without a word."""
    wanted = os.environ.get("TMPDIR")
    try:
        found = tempfile.gettempdir()
    except OSError:
        raise SetupError("no folder for temporary files can be written; set TMPDIR") from None
    if wanted and Path(found) != Path(os.path.abspath(wanted)):  # noqa: PTH100 - as it is found
        raise SetupError("TMPDIR is no folder that can be written, or its disk is full")
