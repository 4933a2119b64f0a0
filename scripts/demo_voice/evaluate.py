"""The judge: Whisper base says what it heard, WORLD at what pitch, the tokens how fast.

Each mode speaks the sentences of sentences.txt through this project's engine at temperature 0.8.
The figures go to a JSON file, a table and plots.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jiwer
import numpy as np
import pyworld

from scripts.demo_voice import clip as clip_text
from scripts.demo_voice.normalizer import normalizer
from scripts.demo_voice.progress import Progress
from scripts.demo_voice.sentences import sections
from tests.support.judge import hear, load_judge
from worker.speech.batcher import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.prompt import GENDERS, LEVELS, Voice
from worker.style import Style

SAMPLING = Sampling(temperature=0.8, top_k=50, top_p=0.95, max_tokens=1000, seed=7)


@dataclass
class Score:
    """What was meant and what was heard, of one mode or section."""

    meant: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """Word and character error rate in percent."""
        wer, cer = jiwer.wer(self.meant, self.heard), jiwer.cer(self.meant, self.heard)
        return {"wer": 100 * float(wer), "cer": 100 * float(cer), "sentences": len(self.meant)}


def evaluate(checkpoint: Path, clip: Path, out: Path, part: int = 1) -> dict[str, object]:
    """Judge the checkpoint on each `part`-th sentence; the figures, written below `out` too."""
    engine = Engine.load(checkpoint, "auto", "cpu")
    plain = normalizer()
    voices = dict(_voices(engine, clip))
    chosen = {name: lines[::part] for name, lines in sections().items()}
    figures: dict[str, object] = {}
    progress = Progress("judged", len(voices) * sum(map(len, chosen.values())))
    with tempfile.TemporaryDirectory() as folder:
        judge = load_judge(Path(folder))
        for mode, voice in voices.items():
            whole = Score()
            for section, lines in chosen.items():
                score = Score()
                for line, spoken in zip(lines, engine.speak(lines, voice, SAMPLING), strict=True):
                    padded = np.pad(spoken.samples, (3200, 4800))
                    score.meant.append(_words(plain.normalize_str(line)))
                    score.heard.append(_words(plain.normalize_str(hear(judge, padded))))
                    progress.step()
                figures[f"{mode}: {section}"] = score.rates()
                whole.meant += score.meant
                whole.heard += score.heard
            figures[f"{mode}: all"] = whole.rates()
    lines = [line for name in ("everyday", "prose") for line in chosen[name]][: max(3, 40 // part)]
    figures["pitch levels"] = _curve(engine, lines, "pitch")
    figures["speed levels"] = _curve(engine, lines, "speed")
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _voices(engine: Engine, clip: Path) -> Iterator[tuple[str, Voice]]:
    yield "cloned", engine.listen(clip)
    yield "cloned, with transcript", engine.listen(clip, clip_text.TEXT)
    for gender in GENDERS:
        style = Style(gender=gender)
        yield f"controlled, {gender}", engine.design(style, "Good morning.", SAMPLING).voice


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split()) or "nothing"


def _curve(engine: Engine, lines: Sequence[str], what: str) -> dict[str, object]:
    """By gender: the mean of each level, and how many sentences keep the levels' order.

    Of pitch in hertz as WORLD hears it, of speed in seconds a sentence.
    """
    figures: dict[str, object] = {}
    for gender in GENDERS:
        rows = []
        for level in LEVELS:
            style = Style(gender=gender, **{what: level})
            voice = engine.design(style, lines[0], SAMPLING).voice
            spoken = engine.speak(lines, voice, SAMPLING)
            rows.append([(_hertz if what == "pitch" else _seconds)(one) for one in spoken])
        table = np.array(rows)  # [levels, sentences]
        steps = np.diff(table, axis=0) * (1 if what == "pitch" else -1)
        figures[gender] = {
            "mean": np.nanmean(table, 1).round(3).tolist(),
            "in order": float((steps > 0).all(0).mean()),
            "neighbours in order": float((steps > 0).mean()),
        }
    return figures


def _hertz(spoken: Utterance) -> float:
    f0, _ = pyworld.harvest(spoken.samples.astype(np.float64), 16000, 60.0, 500.0)
    return float(np.mean(f0[f0 > 0])) if (f0 > 0).any() else float("nan")


def _seconds(spoken: Utterance) -> float:
    return len(spoken.samples) / 16000


def table(figures: dict[str, object]) -> str:
    """The error rates as a table in Markdown."""
    rows = ["| mode: sentences | n | WER % | CER % |", "|---|---|---|---|"]
    for name, rates in figures.items():
        if isinstance(rates, dict) and "wer" in rates:
            rows.append(
                f"| {name} | {rates['sentences']} | {rates['wer']:.1f} | {rates['cer']:.1f} |"
            )
    for name in ("pitch levels", "speed levels"):
        rows += ["", f"| {name} | {' | '.join(LEVELS)} | neighbours in order |", "|---" * 7 + "|"]
        curves = figures[name]
        for gender, curve in curves.items():  # type: ignore[attr-defined]
            means = " | ".join(f"{mean:.2f}" for mean in curve["mean"])
            rows.append(f"| {gender} | {means} | {100 * curve['neighbours in order']:.0f} % |")
    return "\n".join(rows) + "\n"


def plot(figures: dict[str, object], path: Path) -> None:
    """Both curves of levels, by gender."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - slow, and for this alone

    figure, axes = plt.subplots(1, 2, figsize=(8, 3))
    named = (("pitch levels", "mean pitch, Hz"), ("speed levels", "seconds a sentence"))
    for axis, (name, label) in zip(axes, named, strict=True):
        for gender, curve in figures[name].items():  # type: ignore[attr-defined]
            axis.plot(LEVELS, curve["mean"], marker="o", label=gender)
        axis.set_ylabel(label)
        axis.tick_params(axis="x", labelrotation=30)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
