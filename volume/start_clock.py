"""A start's clock: seconds since boot, which `volume run` and the worker that it becomes both read.

`exec` keeps the process, and with it the time at which it was begun.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

# Set for the worker: when `volume run` began and when it became the worker, seconds since boot.
INSTALLER_RAN = "SPARK_INSTALLER_RAN"


def now() -> float:
    """Seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_started(stat: Path = Path("/proc/self/stat")) -> float | None:
    """Seconds since boot at which this process was begun, to 10 ms; None where none can tell.

    The format of `stat` is that of proc(5): the start is field 22, and the name in brackets, field
    2, may hold spaces.
    """
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def installer_ran(began: float) -> dict[str, str]:
    """The variable that tells the worker when the installer, which began then, ran."""
    return {INSTALLER_RAN: f"{began:.6f} {now():.6f}"}
