"""A report's figures side by side: upstream, ours unfused, ours; and which report is the newest.

Nothing here needs torch: docs/ is written from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]
Report = Mapping[str, Any]
STREAMS = ("1", "8", "32", "64")
HEAD = ("on the same card, in the same run", "upstream", "ours, unfused", "ours")


def newest(folder: Path) -> Report | None:
    """The last report in full of a GPU that has rates; None where there is none."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    runs = [run for run in runs if run.get("scale") == "full" and run["machine"]["card"] != "cpu"]
    runs = [run for run in runs if found(run, "rates")]
    when = [(run["machine"]["date"], run["machine"].get("time", "")) for run in runs]
    return runs[when.index(max(when))] if runs else None


def table(report: Report) -> list[tuple[str, str, str, str]]:
    """The rows of the table, HEAD first; those of which nobody has a figure are left out."""
    return [HEAD, *(row for row in _rows(report) if set(row[1:]) != {"-"})]


def about(report: Report) -> str:
    """The machine, in a line."""
    machine = report["machine"]
    changed = " (changed)" if machine["changed"] else ""
    return (
        f"{machine['card']}, driver {machine['driver']}, torch {machine['torch']}, "
        f"CUDA {machine['cuda']}, cuDNN {machine['cudnn']}, flash-attn {machine['flash_attn']}, "
        f"Python {machine['python']}, {machine['cpus']} cores; "
        f"commit {machine['commit']}{changed}, {machine['date']}."
    )


def marks(report: Report, stages: Collection[str] | None = None) -> list[tuple[str, ...]]:
    """The rows of the marks, their head first: all of them, or those of some stages."""
    return [
        ("mark", "value", "bound", "verdict"),
        *(
            (mark["mark"], _value(mark["value"]), mark["bound"], mark["verdict"])
            for mark in report["marks"]
            if stages is None or mark["stage"] in stages
        ),
    ]


def markdown(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines of a table, its head first."""
    head, *others = rows
    lines = [head, tuple("---" for _ in head), *others]
    return [f"| {' | '.join(line)} |" for line in lines]


def found(report: Report, stage: str) -> Found:
    """What a stage found; nothing where it did not run, failed or could not."""
    result: Found = report.get("stages", {}).get(stage, {}).get("found") or {}
    return {} if "missing" in result else result


def _rows(report: Report) -> list[tuple[str, str, str, str]]:
    ours = _ours(report)
    beside = found(report, "unfused")
    theirs = found(report, "upstream")

    def row(
        name: str, figure: Callable[[Mapping[str, Found]], str], of_theirs: str = "-"
    ) -> tuple[str, str, str, str]:
        return name, of_theirs, figure(beside), figure(ours)

    return [
        row("language model alone, tokens/s: 1 / 8 / 32 / 64 rows", _rates,
            _number(theirs, "tokens_a_second")),
        row("RTF of one stream, language model alone", lambda of: _number(of, "rates", "rtf"),
            _number(theirs, "rtf")),
        row("RTF of one stream, with the codec", lambda of: _number(of, "jobs", "1", "rtf"),
            _number(theirs, "rtf_with_codec")),
        row("seconds of audio a second, prompts and codec included: 1 / 8 / 32 / 64 jobs",
            _each("jobs", "audio_a_second"), _number(theirs, "audio_a_second")),
        row("the same, as many clients as slots, one sentence after the other",
            lambda of: _number(of, "jobs", "one_after_the_other", "audio_a_second")),
        row("first audio p50, ms: 1 / 8 / 32 / 64 streams at once",
            _each("streams", "first_audio_p50", way="together", times=1e3)),
        row("first audio p95, ms", _each("streams", "first_audio_p95", way="together", times=1e3)),
        row("first audio p50, ms, staggered: 8 / 32 / 64",
            _each("streams", "first_audio_p50", way="staggered", times=1e3)),
        row("first audio p95, ms, staggered",
            _each("streams", "first_audio_p95", way="staggered", times=1e3)),
        row("streams without a gap of 100 ms, %: 1 / 8 / 32 / 64 at once",
            _each("streams", "continuity", way="together", times=100)),
        row("the same, staggered: 8 / 32 / 64",
            _each("streams", "continuity", way="staggered", times=100)),
        row("longest gap of all, ms: 1 / 8 / 32 / 64 at once",
            _each("streams", "worst_gap", way="together", times=1e3)),
        row("step, ms: 1 / 8 / 32 / 64 rows", _steps),
        row("share of the memory's speed, %: 1 / 8 / 32 / 64 rows",
            _each("step", "share", way="memory", times=100)),
        row("kernels a token: one row / the most rows", _kernels),
        row("Python a step of 64 rows, us: scheduler / with launches",
            lambda of: _joined([_number(of, "python", "64", "scheduler_us"),
                                _number(of, "python", "64", "launches_too_us")])),
        row("load, s", lambda of: _number(of, "load_s"), _number(theirs, "load_s")),
        row("capture, s", lambda of: _number(of, "start", "capture_again_s")),
        row("memory after the load / at most, MiB",
            lambda of: _joined([_number(of, "gpu_mb"), _number(of, "jobs", "peak_mb")]),
            _joined(["-", _number(theirs, "peak_mb")])),
    ]  # fmt: skip


def _ours(report: Report) -> Mapping[str, Any]:
    """What the stages found, by stage, and the last load's figures beside them."""
    stages = {name: found(report, name) for name in report["stages"]}
    start = stages.get("start", {})
    last = {name: start[name][-1] for name in ("load_s", "gpu_mb") if start.get(name)}
    return stages | last


def _rates(of: Mapping[str, Found]) -> str:
    return _joined(_number(of, "rates", "tokens_a_second", count) for count in STREAMS)


def _steps(of: Mapping[str, Found]) -> str:
    names = ("one row of 1", *(f"{count} rows" for count in STREAMS[1:]))
    return _joined(_number(of, "step", name) for name in names)


def _kernels(of: Mapping[str, Found]) -> str:
    profiled = of.get("profile", {})
    counts = sorted((rows for rows in profiled if rows.isdigit()), key=int)  # none where missing
    return _joined(_number(profiled, rows, "kernels") for rows in counts)


def _each(
    stage: str, figure: str, way: str | None = None, times: float = 1
) -> Callable[[Mapping[str, Found]], str]:
    """A figure at each number of streams, alone where it cannot be staggered."""
    path = (stage,) if way is None else (stage, way)
    counts = STREAMS[1:] if way == "staggered" else STREAMS
    return lambda of: _joined(_number(of, *path, count, figure, times=times) for count in counts)


def _joined(parts: Iterable[str]) -> str:
    values = list(parts)
    return "-" if set(values) <= {"-"} else " / ".join(values)


def _number(of: Mapping[str, Any], *path: str, times: float = 1) -> str:
    """A figure in three digits, or a dash where there is none."""
    value: Any = of
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "-" if value is None else plain(value * times)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def plain(value: float) -> str:
    """A number in at least three digits, without an exponent: 0.0352, 12.3, 9,240."""
    if abs(value) < 0.001:
        return f"{round(value, 4):g}" if round(value, 4) else "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
