"""What the starts took, as two tables and a picture: by place, and by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from bench.markdown import markdown, plain

Starts = Mapping[str, Any]  # what bench.start.case gives


def places(starts: Starts) -> dict[str, Mapping[str, Any]]:
    """What was measured, by the place in words."""
    found = {}
    for name, about in starts.items():
        kind, _, milliseconds = name.partition("_")
        if name in ("warm", "cold"):
            found[f"{name} local disk"] = about
        elif kind == "slow":
            found[f"volume, {milliseconds} ms a call"] = about
    return found


def tables(starts: Starts) -> str:
    """Both tables as Markdown; and what could not be measured."""
    parts = [markdown(_by_place(starts)), markdown(_by_stage(starts))]
    if missing := starts.get("missing"):
        parts.append(f"Starts from a slow volume were not measured: {missing}.")
    return "\n\n".join(parts)


def _by_place(starts: Starts) -> list[tuple[str, ...]]:
    lines = [
        ("start from", "upstream, s", "ours, s", "each start", "times", "first job answered, s",
         "metadata calls", "files opened", "reads", "MB read", "upstream: calls, MB"),
    ]  # fmt: skip
    for place, about in places(starts).items():
        theirs = "-"
        if "their_metadata" in about:
            theirs = f"{about['their_metadata']:,}, {about['their_megabytes']:,.0f}"
        lines.append(
            (place, _figure(about, "theirs"), plain(about["ours"]),
             ", ".join(map(plain, about["ours_rounds"])), _figure(about, "times"),
             plain(about["answered"]),
             *(_count(about, name) for name in ("metadata", "opens", "reads", "megabytes")),
             theirs)
        )  # fmt: skip
    return lines


def _by_stage(starts: Starts) -> list[tuple[str, ...]]:
    """When each stage of ours began and ended, in seconds from the start of the process."""
    measured = places(starts)
    names = dict.fromkeys(name for about in measured.values() for name in about["stages"])
    lines = [("stage of ours, from - to, s", *measured)]
    for name in names:
        cells = []
        for about in measured.values():
            began, seconds = about["began"].get(name), about["stages"].get(name)
            cells.append("-" if began is None else f"{began:.2f} - {began + seconds:.2f}")
        lines.append((name, *cells))
    return lines


def _figure(about: Mapping[str, Any], name: str) -> str:
    return plain(about[name]) if name in about else "-"


def _count(about: Mapping[str, Any], name: str) -> str:
    return f"{about[name]:,.0f}" if name in about else "-"


def picture(starts: Starts) -> Figure:
    """The stages of ours at each place, on one scale of seconds."""
    measured = places(starts)
    figure = Figure(figsize=(9, 2.1 * len(measured)))
    panels = figure.subplots(len(measured), sharex=True, squeeze=False)[:, 0]
    for axes, (place, about) in zip(panels, measured.items(), strict=True):
        names = sorted(about["stages"], key=lambda name: about["began"][name])
        for line, name in enumerate(names):
            axes.barh(line, about["stages"][name], left=about["began"][name], height=0.7)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        for text, moment in (("accepted", about["accepted"]), ("answered", about["answered"])):
            axes.axvline(moment, linestyle=":", color="grey")
            axes.annotate(text, (moment, len(names) - 0.6), rotation=90, fontsize=7, ha="right")
        axes.set_title(f"{place}; upstream {_figure(about, 'theirs')} s", fontsize=9, loc="left")
    panels[-1].set(xlabel="seconds from the start of the process", xlim=(0, None))
    figure.tight_layout()
    return figure
