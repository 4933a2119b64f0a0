"""Child processes that die with this one, and how much they have written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# kill -9 leaves no time to stop a child: prctl(2)'s PR_SET_PDEATHSIG has the kernel do it. It is
# set in the child itself, before it becomes the real program; a `preexec_fn` would not be safe
# beside the thread that keeps the lease.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]} cannot be run: {error.strerror}")
"""

OUTPUT_MAX = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """A child's exit status and what it printed, at most the last OUTPUT_MAX bytes."""

    status: int
    output: str

    @property
    def last_lines(self) -> str:
        """The end of what it printed, where programs say why they gave up."""
        return "\n".join(self.output.rstrip().splitlines()[-6:]) or f"exit status {self.status}"


def run_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    watch: Callable[[int], None] = lambda _: None,
    interval: float = 0.2,
) -> Outcome:
    """Run a command until it ends; its output is collected, not shown.

    `watch` is called every `interval` seconds with the bytes that the child has written so far. If
    it raises, the child is killed and the error goes on.
    """
    prefix = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(  # noqa: S603 - no shell
            [*prefix, *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while child.poll() is None:
                watch(bytes_written(child.pid))
                time.sleep(interval)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - OUTPUT_MAX))
        return Outcome(child.returncode, output.read(OUTPUT_MAX).decode(errors="replace"))


def bytes_written(pid: int) -> int:
    """Return what a process has written so far, by the kernel's own count (proc(5), io)."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), 0)
