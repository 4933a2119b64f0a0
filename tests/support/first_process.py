"""Programs as a container's first process, which has a namespace of process numbers to itself."""

from __future__ import annotations

import time
from pathlib import Path

# Runs the command that follows it as process 1, on this machine's own files.
AS_FIRST = (
    *("bwrap", "--dev-bind", "/", "/", "--proc", "/proc"),
    *("--unshare-pid", "--as-pid-1", "--die-with-parent"),
)


def first_process(around: int, seconds: float = 10.0) -> int:
    """The number, out here, of the process 1 that this process is around. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in _descendants(around):
            # Of one process, its number in each namespace from here inwards (proc(5), status).
            lines = _read(Path(f"/proc/{pid}/status")).splitlines()
            numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        time.sleep(0.01)
    raise TimeoutError(f"process {around} has no first process within {seconds} s")


def _descendants(pid: int) -> list[int]:
    children = [int(c) for c in _read(Path(f"/proc/{pid}/task/{pid}/children")).split()]
    return [*children, *(d for child in children for d in _descendants(child))]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
