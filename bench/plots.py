"""Results -> pictures: throughput, latency, growth, look-ahead, starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.start import report as starts_report

# No date and no random ids: the same results give the same file.
STYLE = {"svg.hashsalt": "bench", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}


def draw(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write what the results have; the files."""
    kinds = (
        ("batch", throughput),
        ("latency", latency),
        ("growth", growth),
        ("look_ahead", look_ahead),
        ("start", starts),
    )
    made = []
    with mpl.rc_context(STYLE):
        for case, plot in kinds:
            if case in results:
                path = folder / f"{plot.__name__}.svg"
                plot(results).savefig(path, metadata={"Date": None}, bbox_inches="tight")
                made.append(path)
    return made


def throughput(results: Mapping[str, Any]) -> Figure:
    """Tokens a second against the number of rows."""
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    rates = results["batch"]["tokens_per_second"]
    rows = [int(count) for count in rates]
    axes.plot(rows, list(rates.values()), marker="o", label=f"ours, {results['batch']['kind']}")
    for kind, about in results.get("language_models", {}).get("llama", {}).items():
        found = about["tokens_per_second"]
        counts = [int(count) for count in found]
        axes.plot(counts, list(found.values()), "--x", label=f"llama.cpp, {kind}")
    if "sentence" in results:
        rate = results["sentence"]["theirs_lm_tokens_per_second"]
        axes.axhline(rate, color="grey", linestyle=":", label="upstream, one at a time")
    axes.set_xscale("log", base=2)
    axes.set_xticks(rows, [str(count) for count in rows])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="rows in the batch", ylabel="tokens a second, language model alone")
    axes.legend()
    return figure


def latency(results: Mapping[str, Any]) -> Figure:
    """Share of the sentences that were there after so many seconds."""
    about = results["latency"]
    waits = about["waits"]
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.step(waits, [100 * (n + 1) / len(waits) for n in range(len(waits))], where="post")
    for name, value in about["percentiles"].items():
        axes.axvline(value, linestyle=":", color="grey")
        axes.annotate(f"{name}\n{value:.2f} s", (value, 4), rotation=90, fontsize=8, ha="right")
    axes.set(
        xlabel=f"seconds from the job's coming; {about['jobs']} jobs at random times",
        ylabel="sentences spoken, %",
        ylim=(0, 101),
    )
    axes.set_xlim(left=0)
    return figure


def growth(results: Mapping[str, Any]) -> Figure:
    """Cost of a second of audio and peak memory, for longer texts and longer audio."""
    figure = Figure(figsize=(10, 4))
    cost, memory = figure.subplots(1, 2)
    for work, found in results["growth"].items():
        audio = [one["audio_seconds"] for one in found]
        cost.plot(audio, [one["per_audio_second"] for one in found], marker="o", label=work)
        memory.plot(audio, [one["peak_mb"] for one in found], marker="o", label=work)
    for axes, label in ((cost, "seconds for a second of audio"), (memory, "peak memory, MB")):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set(xlabel="seconds of audio", ylabel=label)
    cost.legend()
    return figure


def look_ahead(results: Mapping[str, Any]) -> Figure:
    """What streams lose at their seams, against the tokens that they wait for."""
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    for name, about in results["look_ahead"].items():
        tokens = [row["tokens"] for row in about["rows"]]
        median = [row["median"] for row in about["rows"]]
        (line,) = axes.plot(tokens, median, marker="o", label=f"{name}: median")
        worst = [row["worst"] for row in about["rows"]]
        axes.plot(tokens, worst, "--x", color=line.get_color(), label="its worst seam")
    axes.axhline(40, color="grey", linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="look-ahead, tokens of 20 ms", ylabel="signal to noise at seams, dB")
    axes.legend()
    return figure


def starts(results: Mapping[str, Any]) -> Figure:
    """The stages of starts, wherever the volume is."""
    return starts_report.picture(results["start"])
