"""The plots of docs/SCALING.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# No date and no random ids: the same results give the same file.
STYLE = {"svg.hashsalt": "scaling", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}
Row = Mapping[str, Any]


def draw(rates: Sequence[Row], slots: Sequence[Row], folder: Path) -> None:
    """Write workers.svg, latency.svg, cost.svg and slots.svg."""
    with mpl.rc_context(STYLE):
        _by_rate(rates, "mean_workers", "workers, mean", folder / "workers.svg", log=True)
        _by_rate(rates, "p95", "p95 of the latency, seconds", folder / "latency.svg", log=False)
        _by_rate(
            rates, "dollars_per_1000", "dollars for 1,000 requests", folder / "cost.svg", log=True
        )
        figure = Figure(figsize=(7, 4))
        left, right = figure.subplots(1, 2)
        _lines(left, slots, "slots", "p95")
        left.set_ylabel("p95 of the latency, seconds")
        _lines(right, slots, "slots", "dollars_per_1000")
        right.set_ylabel("dollars for 1,000 requests")
        for axes in (left, right):
            axes.set_xlabel("jobs at the same time")
            axes.set_ylim(bottom=0)
        figure.tight_layout()
        figure.savefig(folder / "slots.svg", metadata={"Date": None}, bbox_inches="tight")


def _by_rate(rows: Sequence[Row], value: str, label: str, path: Path, *, log: bool) -> None:
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    _lines(axes, rows, "per_minute", value)
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("requests a minute")
    axes.set_ylabel(label)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def _lines(axes: Axes, rows: Sequence[Row], across: str, up: str) -> None:
    for name in dict.fromkeys(row["worker"] for row in rows):
        own = [row for row in rows if row["worker"] == name]
        axes.plot([r[across] for r in own], [r[up] for r in own], marker="o", label=name)
    axes.legend(fontsize="small")
