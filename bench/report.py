"""Results -> the table of what is required, what is aimed at and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.markdown import markdown, plain
from bench.start import report as starts

BEGIN, END = "<!-- Written by `make bench`. -->", "<!-- Until here. -->"

Results = Mapping[str, Any]
Found = float | None


@dataclass(frozen=True)
class Bound:
    """A figure that must be at least, or at most, so much."""

    path: str  # where it stands in the results: case.name
    limit: float | str  # a number, or the path of one
    unit: str = "times"
    at_most: bool = False

    def met(self, results: Results) -> bool | None:
        """None where it was not measured."""
        figure, limit = look(results, self.path), self.limit
        bound = look(results, limit) if isinstance(limit, str) else limit
        if figure is None or bound is None:
            return None
        return figure <= bound if self.at_most else figure >= bound

    def text(self, results: Results) -> str:
        """As it stands in the table."""
        bound = look(results, self.limit) if isinstance(self.limit, str) else self.limit
        sign = "≤" if self.at_most else "≥"
        return f"{sign} {plain(bound)} {self.unit}" if bound is not None else "-"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    case: str
    theirs: str  # paths
    ours: str
    unit: str
    least: Bound | None
    aim: Bound | None = None


ROWS = (
    Row("(a) one sentence", "sentence.theirs", "sentence.ours", "s",
        Bound("sentence.times", 6), Bound("sentence.real_time_factor", 0.9, "RTF", at_most=True)),
    Row("(b) a text of {text}", "text.theirs", "text.ours", "s",
        Bound("text.times", 18), Bound("text.real_time_factor", 0.35, "RTF", at_most=True)),
    Row("(c) jobs at once", "jobs.theirs", "jobs.ours", "s",
        Bound("jobs.times", 18), Bound("jobs.times", 30)),
    Row("(d) cloning, cold reference", "cloning.theirs", "cloning.cold", "s",
        Bound("cloning.times_cold", 2)),
    Row("(d) cloning, cached reference", "cloning.theirs", "cloning.cached", "s",
        Bound("cloning.times_cached", 10)),
    Row("(e) start, warm local disk", "start.warm.theirs", "start.warm.ours", "s",
        Bound("start.warm.times", 3), Bound("start.warm.times", 5)),
    Row("(e) start, volume of 1 ms a call", "start.slow_1.theirs", "start.slow_1.ours", "s",
        Bound("start.slow_1.times", 4)),
    Row("(e) the same, by our own warm start", "start.slow_1.theirs", "start.slow_1.ours", "s",
        Bound("start.slow_1.of_warm", 1.5, "of it", at_most=True),
        Bound("start.slow_1.of_warm", 1.2, "of it", at_most=True)),
    Row("(e) volume of 3 ms a call, by our own warm start", "start.slow_3.theirs",
        "start.slow_3.ours", "s",
        Bound("start.slow_3.of_warm", 2, "of it", at_most=True),
        Bound("start.slow_3.of_warm", 1.3, "of it", at_most=True)),
    Row("(e) metadata calls of a start", "start.their_metadata", "start.metadata", "calls",
        Bound("start.metadata", 600, "calls", at_most=True),
        Bound("start.metadata", 100, "calls", at_most=True)),
    Row("(f) peak memory", "memory.theirs", "memory.ours", "MB",
        Bound("memory.share", 0.6, "of it", at_most=True),
        Bound("memory.share", 0.35, "of it", at_most=True)),
    Row("LM alone, 1 stream, beside llama.cpp", "peer.bf16_1", "peer.ours_1", "tokens/s",
        Bound("peer.ours_1", "peer.bf16_1", "(its bf16)"),
        Bound("peer.ours_1", "peer.best_1", "(its best)")),
    Row("LM alone, 8 streams, beside llama.cpp", "peer.best_8", "peer.ours_8", "tokens/s",
        Bound("peer.ours_8", "peer.best_8", "(its best)"),
        Bound("peer.ours_8", "peer.best_8", "(its best)")),
    Row("LM's rms error, beside llama.cpp's Q8_0", "peer.q8_error", "peer.error", "of the spread",
        None, Bound("peer.error", "peer.q8_error", "(its Q8_0)", at_most=True)),
)  # fmt: skip


def look(results: Results, path: str) -> Found:
    """The number at case.name, or None."""
    place: Any = results
    for name in path.split("."):
        place = place.get(name) if isinstance(place, Mapping) else None
    return float(place) if isinstance(place, int | float) else None


def with_peer(results: Results) -> dict[str, Any]:
    """The results, with what is compared with llama.cpp as a case of its own."""
    models = results.get("language_models")
    if not models or not models["llama"]:
        return dict(results)
    ours, llama = models["ours"][models["auto"]], models["llama"]
    rates = {kind: about["tokens_per_second"] for kind, about in llama.items()}
    peer = {
        **{f"ours_{rows}": ours["tokens_per_second"][rows] for rows in ("1", "8")},
        **{f"bf16_{rows}": rates["bf16"][rows] for rows in ("1", "8")},
        **{f"best_{rows}": max(rate[rows] for rate in rates.values()) for rows in ("1", "8")},
        "error": ours["rms_difference"],
        "q8_error": llama["Q8_0"]["rms_difference"],
    }
    return {**results, "peer": peer}


def verdict(row: Row, results: Results) -> str:
    """Whether the row is met."""
    least, aim = (bound and bound.met(results) for bound in (row.least, row.aim))
    if least is None and aim is None:
        return "not measured"
    if least is False:
        return "NOT MET"
    if row.aim is None:
        return "met"
    return "aim met" if aim else ("met, aim not" if row.least else "aim not met")


def failures(results: Results) -> list[str]:
    """Rows that were measured and are not met."""
    results = with_peer(results)
    return [row.case for row in ROWS if verdict(row, results) == "NOT MET"]


def table(results: Results) -> str:
    """All of it as Markdown."""
    results = with_peer(results)
    counts = f"{results['scale']['sentences']} sentences"
    lines = [
        ("case", "upstream or llama.cpp", "ours", "figure", "at least", "aim", "verdict"),
        *(
            (
                row.case.format(text=counts),
                _cell(look(results, row.theirs), row.unit),
                _cell(look(results, row.ours), row.unit),
                _figures(row, results),
                *(bound.text(results) if bound else "" for bound in (row.least, row.aim)),
                verdict(row, results),
            )
            for row in ROWS
        ),
    ]
    parts = [_about(results), markdown(lines)]
    if "language_models" in results:
        parts += [_models(results)]
    if "growth" in results:
        parts += [_growth(results["growth"])]
    if "start" in results:
        parts += [starts.tables(results["start"])]
    parts += _others(results)
    return "\n\n".join(parts) + "\n"


def included(document: str, text: str) -> str:
    """The document with this table in place of the one that it has."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"the document has no place for the table: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def _about(results: Results) -> str:
    machine, scale = results["machine"], results["scale"]
    return (
        f"{machine['processor']}, {machine['threads']} threads, {machine['device']}, torch "
        f"{machine['torch']}, random weights of the {scale['name']} size, {scale['tokens']} tokens "
        f"a sentence, commit {machine['commit']}, {machine['date']}."
    )


def _figures(row: Row, results: Results) -> str:
    bounds = {bound.path: bound for bound in (row.aim, row.least) if bound}
    shown = ((look(results, path), bound) for path, bound in reversed(bounds.items()))
    texts = (_cell(figure, "" if "(" in bound.unit else bound.unit) for figure, bound in shown)
    return ", ".join(texts)


def _models(results: Results) -> str:
    models = results["language_models"]
    lines = [
        ("language model", "1 stream, tokens/s", "8 streams", "greatest logit difference",
         "rms", "KL divergence", "same favourite", "greedy tokens the same"),
    ]  # fmt: skip
    theirs = look(results, "sentence.theirs_lm_tokens_per_second")
    if theirs is not None:
        lines.append(("upstream, float32, prompt included", plain(theirs), "", "", "", "", "", ""))
    for side in ("ours", "llama"):
        for kind, about in models[side].items():
            name = f"{side.replace('llama', 'llama.cpp')}, {kind}"
            if "missing" in about:
                lines.append((name, f"not here: {about['missing']}", "", "", "", "", "", ""))
                continue
            rates = about["tokens_per_second"]
            lines.append(
                (name, plain(rates["1"]), plain(rates["8"]),
                 plain(about["greatest_difference"]), plain(about["rms_difference"]),
                 f"{about['divergence']:.2g}", f"{about['top_1_agreement']:.1%}",
                 f"{about['greedy_agreed']} of {models['greedy_steps']}")
            )  # fmt: skip
    note = (
        f"Logits of the codec's tokens at {models['judged_positions']} positions against "
        "transformers in float32, in units of their spread (standard deviation)."
    )
    return f"{markdown(lines)}\n\n{note}"


def _growth(growth: Mapping[str, Any]) -> str:
    lines = [("work", "size", "audio", "seconds", "a second of audio", "peak memory")]
    for work, costs in growth.items():
        unit = "sentences" if work == "speaking" else "s"
        lines += [
            (work, f"{cost['size']} {unit}", f"{plain(cost['audio_seconds'])} s",
             plain(cost["seconds"]), f"{plain(cost['per_audio_second'])} s",
             f"{cost['peak_mb']} MB")
            for cost in costs
        ]  # fmt: skip
    return markdown(lines)


def _others(results: Results) -> list[str]:
    """The figures without a bound, a line each."""
    found = []
    if listening := look(results, "cloning.times_listening"):
        found.append(
            f"- The reference alone to tokens: upstream {results['cloning']['their_listening']} s, "
            f"ours {results['cloning']['our_listening']} s, {listening} times."
        )
    if "latency" in results:
        about = results["latency"]
        parts = ", ".join(f"{name} {value} s" for name, value in about["percentiles"].items())
        found.append(
            f"- {about['jobs']} jobs at random times, from a job's coming to each of its "
            f"{about['sentences']} sentences of {about['audio_seconds_each']} s: {parts}."
        )
    if "first_audio" in results:
        about = results["first_audio"]
        found.append(
            f"- A sentence of {about['audio_seconds']} s: first audio of its stream, which waits "
            f"for {about['stream_waits_for_tokens']} tokens, {about['stream_first_audio']} s; the "
            f"whole sentence, not streamed, {about['whole_sentence']} s (medians)."
        )
    if "bandwidth" in results:
        about = results["bandwidth"]
        size = about["bytes_per_step"] / 1e6
        read, limit = (about[f"{name}bytes_per_second"] / 1e9 for name in ("", "limit_"))
        found.append(
            f"- A step of one row reads {size:.0f} MB of weights, {read:.1f} of the {limit:.1f} "
            f"GB/s that the memory gives: {about['share_of_limit']:.0%}."
        )
    if "gpu_peak" in results.get("memory", {}).get("processes", {}).get("ours", {}):
        sides = results["memory"]["processes"]
        theirs, ours = (sides[side]["gpu_peak"] / 2**20 for side in ("theirs", "ours"))
        found.append(
            f"- The GPU's memory at most, of what torch takes: upstream {theirs:.0f} MB, "
            f"ours {ours:.0f} MB."
        )
    if "concurrency" in results:
        made = results["concurrency"]["audio_seconds_per_second"]
        parts = ", ".join(f"{count}: {rate}" for count, rate in made.items())
        found.append(f"- Seconds of audio a second, by jobs at once: {parts}.")
    return ["\n".join(found)] if found else []


def _cell(figure: Found, unit: str) -> str:
    return "-" if figure is None else f"{plain(figure)} {unit}".strip()
