"""The judge: Whisper base says what it heard, WORLD at what pitch, the tokens how fast and where.

Each mode speaks the sentences of sentences.txt through this project's engine at temperature 0.8.
The figures go to a JSON file, a table and plots.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jiwer
import numpy as np
import pyworld

from scripts.demo_voice import clip as clip_text
from scripts.demo_voice import codes
from scripts.demo_voice.normalizer import normalizer
from scripts.demo_voice.progress import Progress
from scripts.demo_voice.sentences import sections
from tests.support.judge import hear, load_judge
from tests.support.truth import edge_errors
from worker.job.speech_check import judge
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.voice import GENDERS, LEVELS, Style, Voice
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan

SAMPLING = Sampling(temperature=0.8, top_k=50, top_p=0.95, max_tokens=1000, seed=7)
TIMED = "The children were playing in the garden."  # some two seconds


@dataclass
class Score:
    """What was meant and what was heard, of one mode or section."""

    meant: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def rates(self) -> Rates:
        """Word and character error rate."""
        wer, cer = jiwer.wer(self.meant, self.heard), jiwer.cer(self.meant, self.heard)
        return Rates(len(self.meant), round(100 * float(wer), 1), round(100 * float(cer), 1))


@dataclass(frozen=True)
class Rates:
    """Errors in percent."""

    sentences: int
    wer: float
    cer: float


@dataclass(frozen=True)
class Curve:
    """One gender at all levels: of pitch in hertz, of speed in seconds a sentence."""

    mean: list[float]
    in_order: float  # percent of sentences whose levels are all in order
    neighbours_in_order: float  # percent of pairs of neighbouring levels


@dataclass(frozen=True)
class Edges:
    """The aligner's error at the beginnings and ends of words, by the tokens, in milliseconds."""

    words: int
    median: float
    bias: float  # the median with its sign
    most: float  # of 95 %
    doubted: float  # percent of sentences that the worker's check would speak again


@dataclass(frozen=True)
class Figures:
    """All that is judged."""

    rates: dict[str, Rates]  # by "mode: section"
    pitch_levels: dict[str, Curve]  # by gender
    speed_levels: dict[str, Curve]
    aligner: Edges
    speak_seconds: float  # for TIMED, warm
    spoken_seconds: float
    megabytes: float  # of weights on disk


def evaluate(checkpoint: Path, clip: Path, out: Path, part: int = 1) -> Figures:
    """Judge the checkpoint on each `part`-th sentence; the figures, written below `out` too."""
    engine = Engine.load(checkpoint, "auto", "cpu")
    plain = normalizer()
    voices = dict(_voices(engine, clip))
    chosen = {name: lines[::part] for name, lines in sections().items()}
    rates: dict[str, Rates] = {}
    cloned: list[Utterance] = []
    progress = Progress("judged", len(voices) * sum(map(len, chosen.values())))
    with tempfile.TemporaryDirectory() as folder:
        whisper = load_judge(Path(folder))
        for mode, voice in voices.items():
            whole = Score()
            for section, lines in chosen.items():
                score = Score()
                for line, spoken in zip(lines, engine.speak(lines, voice, SAMPLING), strict=True):
                    padded = np.pad(spoken.samples, (3200, 4800))
                    score.meant.append(_words(plain.normalize_str(line)))
                    score.heard.append(_words(plain.normalize_str(hear(whisper, padded))))
                    progress.step()
                    if mode == "cloned":
                        cloned.append(spoken)
                rates[f"{mode}: {section}"] = score.rates()
                whole.meant += score.meant
                whole.heard += score.heard
            rates[f"{mode}: all"] = whole.rates()
    lines = [line for name in ("everyday", "prose") for line in chosen[name]][: max(3, 40 // part)]
    seconds, spoken_seconds = _speed(engine, voices["cloned"])
    figures = Figures(
        rates=rates,
        pitch_levels=_curves(engine, lines, "pitch"),
        speed_levels=_curves(engine, lines, "speed"),
        aligner=_edges(Aligner.load({"en": checkpoint / "aligner"}, "cpu"), cloned),
        speak_seconds=seconds,
        spoken_seconds=spoken_seconds,
        megabytes=sum(f.stat().st_size for f in checkpoint.rglob("*.safetensors")) / 1e6,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(asdict(figures), indent=1) + "\n")
    return figures


def _voices(engine: Engine, clip: Path) -> Iterator[tuple[str, Voice]]:
    yield "cloned", engine.listen(clip)
    yield "cloned, with transcript", engine.listen(clip, clip_text.TEXT)
    for gender in GENDERS:
        style = Style(gender=gender)
        yield f"controlled, {gender}", engine.design(style, "Good morning.", SAMPLING).voice


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split()) or "nothing"


def _curves(engine: Engine, lines: Sequence[str], what: str) -> dict[str, Curve]:
    """By gender, as WORLD hears the pitch."""
    curves = {}
    for gender in GENDERS:
        rows = []
        for level in LEVELS:
            style = Style(gender=gender, **{what: level})
            voice = engine.design(style, lines[0], SAMPLING).voice
            spoken = engine.speak(lines, voice, SAMPLING)
            rows.append([(_hertz if what == "pitch" else _seconds)(one) for one in spoken])
        table = np.array(rows)  # [levels, sentences]
        right = np.diff(table, axis=0) * (1 if what == "pitch" else -1) > 0
        curves[gender] = Curve(
            np.nanmean(table, 1).round(3).tolist(),
            round(100 * float(right.all(0).mean()), 1),
            round(100 * float(right.mean()), 1),
        )
    return curves


def _hertz(spoken: Utterance) -> float:
    f0, _ = pyworld.harvest(spoken.samples.astype(np.float64), 16000, 60.0, 500.0)
    return float(np.mean(f0[f0 > 0])) if (f0 > 0).any() else float("nan")


def _seconds(spoken: Utterance) -> float:
    return len(spoken.samples) / codes.SAMPLE_RATE


def _edges(aligner: Aligner, utterances: Sequence[Utterance]) -> Edges:
    wrong = edge_errors(aligner, utterances, codes.SAMPLE_RATE, codes.SILENT)
    doubted = 0
    for one in utterances:
        span = SentenceSpan(one.text, 0.0, _seconds(one))
        doubted += not judge(aligner.align(one.samples, codes.SAMPLE_RATE, [span]), span).good
    edges = np.concatenate(wrong)
    sizes = np.abs(edges)
    return Edges(
        words=sum(len(part) // 2 + 1 for part in wrong),
        median=round(float(np.median(sizes)), 1),
        bias=round(float(np.median(edges)), 1),
        most=round(float(np.percentile(sizes, 95)), 1),
        doubted=round(100 * doubted / len(utterances), 1),
    )


def _speed(engine: Engine, voice: Voice) -> tuple[float, float]:
    """Seconds for TIMED, the best of seven, and how long it is."""
    best, length = float("inf"), 0.0
    for _ in range(7):
        start = time.perf_counter()
        (spoken,) = engine.speak([TIMED], voice, SAMPLING)
        best = min(best, time.perf_counter() - start)
        length = _seconds(spoken)
    return round(best, 3), round(length, 2)


def table(figures: Figures) -> str:
    """All figures as tables in Markdown."""
    rows = ["| mode: sentences | n | WER % | CER % |", "|---|---|---|---|"]
    for name, rates in figures.rates.items():
        rows.append(f"| {name} | {rates.sentences} | {rates.wer:.1f} | {rates.cer:.1f} |")
    for name, curves in _named(figures).items():
        rows += ["", f"| {name} | {' | '.join(LEVELS)} | neighbours in order | all in order |"]
        rows.append("|---" * (len(LEVELS) + 3) + "|")
        for gender, curve in curves.items():
            cells = [f"{mean:.{0 if mean > 20 else 2}f}" for mean in curve.mean]
            cells += [f"{curve.neighbours_in_order:.0f} %", f"{curve.in_order:.0f} %"]
            rows.append(f"| {gender} | {' | '.join(cells)} |")
    edges = figures.aligner
    rows += [
        "",
        (
            f"Aligner, {edges.words} words of the cloned voice: median error {edges.median} ms "
            f"(bias {edges.bias} ms), 95 % within {edges.most} ms. The worker's check would have "
            f"{edges.doubted} % of the sentences spoken again."
        ),
        "",
        (
            f"Warm, a sentence of {figures.spoken_seconds} s is spoken in "
            f"{figures.speak_seconds} s. Weights on disk: {figures.megabytes:.1f} MB."
        ),
    ]
    return "\n".join(rows) + "\n"


def _named(figures: Figures) -> dict[str, dict[str, Curve]]:
    return {
        "mean pitch, Hz": figures.pitch_levels,
        "seconds a sentence, by speed": figures.speed_levels,
    }


def plot(figures: Figures, path: Path) -> None:
    """Both curves of levels, by gender."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - slow, and for this alone

    figure, axes = plt.subplots(1, 2, figsize=(8, 3))
    for axis, (name, curves) in zip(axes, _named(figures).items(), strict=True):
        for gender, curve in curves.items():
            axis.plot(LEVELS, curve.mean, marker="o", label=gender)
        axis.set_ylabel(name)
        axis.tick_params(axis="x", labelrotation=30)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
