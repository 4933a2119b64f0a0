"""How well sentences are judged without the times of their words, and with them.

python -m bench.speech_gate [--out docs/bench]

Good speech is that of the 210 sentences of the demo voice's judge, in all built-in voices, the
slowest and the fastest styles, and cloned. Whisper hears what is doubted of it: a false alarm is a
sentence of which it misses less than a third. Failures are planted in the tokens of such sentences.
Limits were chosen on the odd sentences; the figures are of the even ones.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.markdown import markdown
from bench.speech_gate.failures import HELD, KINDS, Material
from bench.speech_gate.spoken import CHECKPOINT, ROOT, Sentence, Told, told
from scripts.demo_voice.normalizer import normalizer
from tests.support.judge import hear, load_judge, word_error_rate
from worker.audio import waveform
from worker.audio.waveform import Audio
from worker.job.speech_check import Verdict
from worker.job.speech_gate import VoiceGate, heard_at
from worker.job.word_check import judge_words
from worker.speech.engine import Engine, Utterance
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan

MISHEARD = 1 / 3  # of the words: what the model itself said wrongly is no false alarm
CACHE = ROOT / ".cache" / "bench" / "speech_gate"
NOTHING = np.zeros(0, np.float32)
TIMED = 7  # of so many good sentences one is judged by its words too
PLANTED = 30  # of each kind, and in each half


@dataclass(frozen=True)
class Good:
    """What is doubted of one voice's speech."""

    sentences: int
    doubted: int
    false_alarms: int
    timed: int  # of these sentences, as many
    doubted_by_words: int


@dataclass(frozen=True)
class Caught:
    """Planted failures that are noticed."""

    planted: int
    by_gate: int
    with_words: int  # by the gate or the times of the words


class Ear:
    """Decodes, judges and hears."""

    def __init__(self, engine: Engine, aligner: Aligner, folder: Path) -> None:
        self._engine = engine
        self._aligner = aligner
        self._whisper = load_judge(folder)
        self._plain = normalizer()
        self.gate_seconds: list[float] = []

    def utterance(self, voice: Told, one: Sentence) -> Utterance:
        """The sentence as the engine would give it."""
        samples = self._engine._codec.decode(voice.voice.global_tokens, one.tokens)
        count = len(one.tokens)
        return Utterance(one.text, samples, one.tokens, count, one.complete, codec_seconds=0.0)

    def by_gate(self, gate: VoiceGate, spoken: Utterance) -> Verdict:
        """The verdict, timed."""
        started = time.perf_counter()
        verdict = gate.judge(spoken, self._engine.sample_rate)
        self.gate_seconds.append(time.perf_counter() - started)
        return verdict

    def by_words(self, spoken: Utterance) -> Verdict:
        """The verdict of the words' times."""
        trimmed = waveform.trim(Audio(spoken.samples, self._engine.sample_rate))
        span = SentenceSpan(spoken.text, 0.0, trimmed.duration)
        words = self._aligner.align(trimmed.samples, trimmed.sample_rate, [span])
        return judge_words(words, span, trimmed, self._aligner)

    def misheard(self, spoken: Utterance) -> float:
        """Of the words."""
        heard = hear(self._whisper, np.pad(spoken.samples, (3200, 4800)))
        plain = self._plain.normalize_str
        return word_error_rate(plain(spoken.text), plain(heard) or "nothing")


def good(ear: Ear, voice: Told, first: int) -> Good:
    """Judge every second sentence from `first` on, each as the only one of its job."""
    doubted = false = 0
    for one in voice.sentences[first::2]:
        verdict = VoiceGate(voice.voice, 3000).judge_heard(
            Utterance(one.text, NOTHING, one.tokens, 0, one.complete, codec_seconds=0.0),
            heard_at(np.array(one.levels)),
        )
        if not verdict.good:
            wrong = ear.misheard(ear.utterance(voice, one))
            doubted += 1
            false += wrong < MISHEARD
            print(f"  {voice.name}: {one.text!r}: {verdict.faults}, misheard {wrong:.2f}")
    timed = voice.sentences[first :: 2 * TIMED]
    by_words = 0
    for one in timed:
        verdict = ear.by_words(ear.utterance(voice, one))
        by_words += not verdict.good
        if not verdict.good:
            print(f"  {voice.name}, by words: {one.text!r}: {verdict.faults}")
    return Good(len(voice.sentences[first::2]), doubted, false, len(timed), by_words)


def planted(
    ear: Ear, kind: str, voices: Sequence[Told], first: int, count: int
) -> Iterator[tuple[Told, Utterance]]:
    """Failures of one kind, in voices and sentences drawn by chance."""
    draws = random.Random(f"{kind} {first}")
    silence = _silence(voices[0])
    for number in range(count):
        voice = voices[number % len(voices)]
        one, other = draws.sample(voice.sentences[first::2], 2)
        loudest = _loudest(ear.utterance(voice, one)) if kind == HELD else 0
        material = Material(other, silence, loudest)
        yield voice, ear.utterance(voice, KINDS[kind](draws, one, material))


def _silence(voice: Told) -> tuple[int, ...]:
    """What the model itself makes of silence: the last tokens of its sentences."""
    return tuple(one.tokens[-1] for one in voice.sentences[:10])


def _loudest(spoken: Utterance) -> int:
    hop = len(spoken.samples) // len(spoken.semantic_tokens)
    frames = spoken.samples[: hop * len(spoken.semantic_tokens)].reshape(-1, hop)
    return int(np.square(frames).mean(axis=1).argmax())


def caught(ear: Ear, kind: str, voices: Sequence[Told], first: int, *, words: bool) -> Caught:
    """How many failures of a kind are noticed."""
    found = [0, 0]
    missed = []
    for voice, spoken in planted(ear, kind, voices, first, PLANTED):
        by_gate = not ear.by_gate(VoiceGate(voice.voice, 3000), spoken).good
        found[0] += by_gate
        found[1] += by_gate or (words and not ear.by_words(spoken).good)
        if not by_gate:
            missed.append((voice.name, round(len(spoken.samples) / 16000, 2), spoken.text))
    for one in missed:
        print(f"  {kind} missed: {one}")
    return Caught(PLANTED, *found)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a folder for the figures")
    parser.add_argument("--half", choices=["odd", "even"], default="even", help="of the sentences")
    options = parser.parse_args(arguments)
    first = 0 if options.half == "odd" else 1
    engine = Engine.load(CHECKPOINT, "auto", "cpu")
    aligner = Aligner.load({"en": CHECKPOINT / "aligner"}, "cpu")
    voices = list(told(engine, CACHE))
    with tempfile.TemporaryDirectory() as folder:
        ear = Ear(engine, aligner, Path(folder))
        goods = {voice.name: good(ear, voice, first) for voice in voices}
        kinds = {kind: caught(ear, kind, voices, first, words=True) for kind in KINDS}
    milliseconds = 1000 * float(np.median(ear.gate_seconds))
    total = Good(*np.sum([list(asdict(one).values()) for one in goods.values()], 0).tolist())
    head = ("good speech", "sentences", "doubted", "false alarms", "timed", "doubted by words")
    rows: list[tuple[str, ...]] = [head]
    rows += [
        (name, *map(str, asdict(one).values())) for name, one in {**goods, "all": total}.items()
    ]
    print(markdown(rows), end="\n\n")
    table = [("planted failure", "planted", "caught", "with word timings")]
    table += [
        (kind, str(one.planted), str(one.by_gate), str(one.with_words))
        for kind, one in kinds.items()
    ]
    print(markdown(table))
    print(f"\n{milliseconds:.2f} ms a sentence (median)")
    if options.out is not None:
        figures = {
            "half": options.half,
            "good": {name: asdict(one) for name, one in {**goods, "all": total}.items()},
            "planted": {kind: asdict(one) for kind, one in kinds.items()},
            "milliseconds": round(milliseconds, 2),
        }
        file = options.out / "speech_gate.json"
        file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
