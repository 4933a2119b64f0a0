"""The GPU's figures in docs/PERFORMANCE.md, from the newest report of `make gpu-check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.gpu import figures as of_report

BEGIN = "<!-- Of a GPU, written by `python -m docs.generate` from bench/gpu/. -->\n"
END = "<!-- Until here. -->"
REPORTS = Path(__file__).parent / "bench" / "gpu"
STAGES = ("rates", "jobs", "streams", "profile", "step", "python")  # whose marks are speed
KERNELS = 8  # the longest ones


def figures() -> str:
    """The table of both sides, the marks of speed and the profile of a step, as Markdown."""
    report = of_report.newest(REPORTS)
    if report is None:
        return "**No report has these figures yet**: `make gpu-check` on a GPU writes one.\n"
    lines = [of_report.about(report), "", *of_report.markdown(of_report.table(report))]
    for rows in (of_report.marks(report, STAGES), _profile(report)):
        if len(rows) > 1:
            lines += ["", *of_report.markdown(rows)]
    return "\n".join([*lines, ""])


def _profile(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The kernels that take a step of one row longest; none where nothing was profiled."""
    found = of_report.found(report, "profile")
    longest = found.get("1", {}).get("longest", [])[:KERNELS]
    head = ("kernel, of a step of one row", "times", "us in all")
    rows = [
        (f"`{name.replace('|', ' ')}`", f"{count:g}", of_report.plain(taken))
        for name, count, taken in longest
    ]
    return [head, *rows]
