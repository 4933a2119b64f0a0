"""Concurrency: how many jobs the worker takes at once, by the memory that is free."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from worker.logs import event
from worker.serve.shutdown import RunningJobs

SHORT = 0.10  # share of free memory below which fewer jobs are taken
PLENTY = 0.25  # share above which the worker takes as many as it may
_CGROUP = Path("/sys/fs/cgroup")


class Concurrency:
    """The concurrency modifier that RunPod's SDK asks, again and again, how many jobs to take.

    To change the number, the SDK takes no job until all have ended. So it is lowered only when
    memory is short, and raised only when nothing runs.
    """

    def __init__(
        self, most: int, running: RunningJobs, free: Callable[[], float] | None = None
    ) -> None:
        self._most = most
        self._running = running
        self._free = free or host_memory_free
        self._begun = False
        self.before_first_job: Callable[[], None] = lambda: None

    def __call__(self, current: int) -> int:
        """Give the number from now on, where it was `current`."""
        self._running.listen_for_the_end()
        free = self._free()
        wanted = current
        if free < SHORT:
            wanted = max(1, current // 2)
        elif not self._begun or (current < self._most and free > PLENTY and self._running.idle):
            wanted = self._most
        if not self._begun:
            self.before_first_job()
        self._begun = True
        if wanted != current:
            event(logging.INFO, "concurrency changed", jobs=wanted, memory_free=free)
        return min(wanted, self._most)


def host_memory_free() -> float:
    """The share of memory that is free, 0 to 1, of the machine or its container: the smaller."""
    shares = [1.0]
    with suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {name: int(rest.split()[0]) for name, rest in (li.split(":") for li in lines)}
        shares.append(sizes["MemAvailable"] / sizes["MemTotal"])
    for limit, used, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        # "max" is no number, and of a limit of 0 there is no share: as if there were none.
        with suppress(OSError, ValueError, KeyError, ZeroDivisionError):
            most = int((_CGROUP / limit).read_text())
            now = int((_CGROUP / used).read_text())
            stat = (_CGROUP / limit).with_name("memory.stat").read_text().splitlines()
            cached = int(dict(line.split() for line in stat)[reclaimable])
            shares.append((most - now + cached) / most)
    return max(min(shares), 0.0)
