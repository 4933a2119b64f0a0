"""What is heard differently where an alignment model's weights are rounded to float16.

python -m bench.aligner_halves [FOLDER ...]

Each model is prepared as `volume install` does it, and both forms hear the same speech: the small
models that the tests train, in words of espeak-ng; the embedded aligner, in sentences of the
embedded model. Where folders are given, the models in these hear the latter instead; they may be
random ones of the published sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from bench.sentences import sentences
from tests.support.spoken_words import Pasted, paste
from tests.support.word_aligner import CHINESE, ENGLISH, Lesson, train
from volume.layout import PREPARED
from volume.pins import EMBEDDED
from worker.model_files.json_object import read_json
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.text.words import has_han
from worker.timing.aligner import Aligner
from worker.timing.ctc_model import SAMPLE_RATE, CtcModel, load_model
from worker.timing.prepare import prepare
from worker.timing.word_timing import SentenceSpan

SENTENCES = 12
WORDS = 8  # of a sentence of espeak-ng's


@dataclass(frozen=True)
class Heard:
    """A sentence: its text, and its samples [n] at 16 kHz."""

    text: str
    samples: NDArray[np.float32]


def main() -> None:
    """Print a row of a table for each model."""
    print(
        "| model | sentences | logits: greatest difference, of their spread | frames whose "
        "likeliest letter differs | words whose times differ | greatest difference |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    if len(sys.argv) > 1:
        spoken = [*_spoken()]
        for path in map(Path, sys.argv[1:]):
            _compare(path.name.partition("@")[0], path, spoken)
        return
    with TemporaryDirectory() as scratch:
        for name, lesson in (("trained, English", ENGLISH), ("trained, Chinese", CHINESE)):
            folder = Path(scratch) / name
            train(folder, lesson)
            _compare(name, folder, [*_pasted(lesson)])
    _compare("the embedded one", EMBEDDED / "demo" / "checkpoint" / "aligner", [*_spoken()])


def _spoken() -> Iterator[Heard]:
    engine = Engine.load(EMBEDDED / "demo" / "checkpoint", "float32", "cpu")
    voice = engine._prompter.some_voice()
    for utterance in engine.speak(sentences(SENTENCES), voice, Sampling(seed=1)):
        yield Heard(utterance.text, utterance.samples)


def _pasted(lesson: Lesson) -> Iterator[Heard]:
    draws = np.random.default_rng(1)
    for _ in range(SENTENCES):
        words = [str(word) for word in draws.choice(lesson.words, WORDS)]
        pasted: Pasted = paste(words, draws.uniform(0.1, 0.4, WORDS + 1).tolist(), lesson.voice)
        yield Heard(pasted.text, pasted.samples)


def _compare(name: str, published: Path, spoken: list[Heard]) -> None:
    letters = "".join(read_json(published / "vocab.json"))
    language = "zh" if has_han(letters) else "en"
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "aligner"
        folder.mkdir()
        for path in published.iterdir():
            if path.is_file():
                (folder / path.name).symlink_to(path.resolve())
        exact = load_model(language, folder, "cpu")
        prepare(folder, folder / PREPARED)
        rounded = load_model(language, folder, "cpu")
        _print(name, exact, rounded, spoken)


def _print(name: str, exact: CtcModel, rounded: CtcModel, spoken: list[Heard]) -> None:
    logits, letters, times = [], [], []
    for heard in spoken:
        one, other = (model.logits(heard.samples)[0] for model in (exact, rounded))
        logits.append(float((one - other).abs().max() / one.std()))
        letters.append((one.argmax(-1) != other.argmax(-1)).float())
        span = [SentenceSpan(heard.text, 0.0, heard.samples.size / SAMPLE_RATE)]
        aligned = [
            Aligner({model.language: model}).align(heard.samples, SAMPLE_RATE, span)
            for model in (exact, rounded)
        ]
        times += [
            max(abs(a.start - b.start), abs(a.end - b.end)) for a, b in zip(*aligned, strict=True)
        ]
    changed = torch.cat(letters)
    print(
        f"| {name} | {len(spoken)} | {max(logits):.5f} | {int(changed.sum())} of {len(changed)} | "
        f"{sum(time > 0 for time in times)} of {len(times)} | {1000 * max(times):.0f} ms |",
        flush=True,
    )


if __name__ == "__main__":
    main()
