"""Marks of use, kept alive by heartbeats as the leases are, so that `gc` removes nothing in use.

A user says so in a file of its own before it looks whether the thing is there. The file's count
goes up until the user has gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

# After `exec` nothing of this package is left in the worker, so a small process of its own counts
# for it and ends with it.
_COUNT = """
import os, sys, time
parent, interval, files = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
count = 0
while os.getppid() == parent:
    count += 1
    for name in files:
        try:
            with open(name, "r+b") as file:
                file.write(b"%012d" % count)
        except OSError:
            pass
    time.sleep(interval)
for name in files:
    try:
        os.unlink(name)
    except OSError:
        pass
"""


def announce(uses: Path, resources: Iterable[str]) -> list[Path]:
    """Say that this process will use these resources; returns the files that say so."""
    files = []
    for resource in resources:
        file = uses / resource / uuid.uuid4().hex
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%012d" % 0)
        files.append(file)
    return files


def keep_announcing(files: list[Path], interval: float) -> None:
    """Start the process that counts for this one, also after it has become another program."""
    command = [sys.executable, "-I", "-S", "-c", _COUNT, str(os.getpid()), str(interval)]
    subprocess.Popen(  # noqa: S603 - no shell; it outlives this program on purpose
        [*command, *map(str, files)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def in_use(uses: Path, patience: float, sleep: Callable[[float], None] = time.sleep) -> set[str]:
    """Return the resources whose users' counts go up within `patience` seconds.

    Files whose count stands still are those of users that died; they are removed.
    """
    before = _counts(uses)
    if not before:
        return set()
    sleep(patience)
    after = _counts(uses)
    for path in before.keys() & after.keys():
        if after[path] == before[path]:
            after.pop(path)
            path.unlink(missing_ok=True)
    return {path.parent.name for path in after}


def _counts(uses: Path) -> dict[Path, bytes]:
    counts = {}
    for path in uses.glob("*/*"):
        with suppress(OSError), path.open("rb") as file:  # else its user has just gone
            counts[path] = file.read(64)  # a count has twelve
    return counts
