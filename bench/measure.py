"""Wall time and resident memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def side_by_side(rounds: int, **sides: Callable[[int], object]) -> dict[str, Any]:
    """All sides in turn, each told the round's number: {side: {seconds, median}}."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side, work in sides.items():
            taken[side].append(seconds(partial(work, number)))
    return {
        side: {"seconds": times, "median": statistics.median(times)}
        for side, times in taken.items()
    }


def beside_parts(parts: Sequence[Work], whole: Work) -> dict[str, Any]:
    """Theirs, which works on one part after the other, and between two of them all of ours.

    {side: {seconds, median}}: theirs is the sum of its parts, ours the median of as many wholes.
    """
    theirs, ours = [], []
    for part in parts:
        theirs.append(seconds(part))
        ours.append(seconds(whole))
    return {
        "theirs": {"seconds": theirs, "median": sum(theirs)},
        "ours": {"seconds": ours, "median": statistics.median(ours)},
    }


def resident(field: str = "VmHWM") -> int:
    """Bytes of this process: VmHWM at most, VmRSS now, RssFile of mapped files."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def peak_of(work: Work) -> int:
    """Bytes that this process had at most while it worked."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    work()
    return resident()
