"""How well a transcript that is not the recording's is told from one that is.

python -m bench.transcripts [--out docs/bench]

Recordings are one to four sentences of the judge's in the embedded model's voices;
the embedded aligner hears them. Limits were chosen on the odd sentences, figures are of the even
ones. espeak-ng's voice is one that this aligner, trained on one synthetic voice, cannot understand:
it shows what is said of such a speaker.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.markdown import markdown
from bench.speech_gate.spoken import CHECKPOINT, ROOT, Told, told
from tests.support.sounds import speech
from worker.speech.engine import Engine
from worker.timing.aligner import Aligner
from worker.timing.transcript_fit import fit_of

CACHE = ROOT / ".cache" / "bench" / "speech_gate"
RATE = 16_000
COUNT = 60  # recordings of each kind
GERMAN = (
    "Der Gärtner ging langsam den schmalen Weg entlang und trug einen Korb mit Äpfeln. Es war spät "
    "am Nachmittag, und die Luft war kühl. Niemand sonst war im Park, und sie setzte sich."
)
Samples = np.ndarray


@dataclass(frozen=True)
class Recording:
    """Samples [n] at 16 kHz, what is said in them, and as much of another text."""

    samples: Samples
    text: str
    other: str


Change = Callable[[random.Random, Recording], tuple[Samples, str]]


def _word(draws: random.Random, one: Recording, new: Sequence[str]) -> str:
    """The text with one of its words replaced by `new` ones."""
    words = one.text.split()
    at = draws.randrange(len(words))
    return " ".join([*words[:at], *new, *words[at + 1 :]])


def _part(one: Recording, share: float) -> str:
    words = one.text.split()
    return " ".join(words[: max(1, round(share * len(words)))])


RIGHT: dict[str, Change] = {
    "as it is said": lambda _, one: (one.samples, one.text),
    "lower case, no marks": lambda _, one: (
        one.samples,
        "".join(c for c in one.text.lower() if c.isalnum() or c in " '"),
    ),
    "with remarks": lambda _, one: (one.samples, f"[laughs] {one.text} (coughs)"),
    "a word missing": lambda draws, one: (one.samples, _word(draws, one, [])),
    "a wrong word": lambda draws, one: (one.samples, _word(draws, one, ["basket"])),
    "silence around it": lambda _, one: (np.pad(one.samples, 2 * RATE), one.text),
}
WRONG: dict[str, Change] = {
    "another text": lambda _, one: (one.samples, one.other),
    "another language": lambda _, one: (one.samples, GERMAN[: len(one.text)]),
    "goes on with as much again": lambda _, one: (one.samples, f"{one.text} {one.other}"),
    "the recording cut at a half": lambda _, one: (one.samples[: len(one.samples) // 2], one.text),
    "a half of the words": lambda _, one: (one.samples, _part(one, 0.5)),
}


@dataclass(frozen=True)
class Row:
    """How many transcripts of one kind were called misfits."""

    tried: int
    misfits: int


def recordings(
    engine: Engine, voices: Sequence[Told], first: int, draws: random.Random
) -> list[Recording]:
    """Sentences of one voice, one after the other."""
    made = []
    for number in range(COUNT):
        voice = voices[number % len(voices)]
        chosen = draws.sample(voice.sentences[first::2], 8)
        count = draws.randint(1, 4)
        said, others = chosen[:count], chosen[4 : 4 + count]
        tokens = [token for one in said for token in one.tokens]
        samples = engine._codec.decode(voice.voice.global_tokens, tokens)
        texts = (" ".join(one.text for one in group) for group in (said, others))
        made.append(Recording(samples, *texts))
    return made


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a folder for the figures")
    parser.add_argument("--half", choices=["odd", "even"], default="even", help="of the sentences")
    options = parser.parse_args(arguments)
    first = 0 if options.half == "odd" else 1
    engine = Engine.load(CHECKPOINT, "auto", "cpu")
    aligner = Aligner.load({"en": CHECKPOINT / "aligner"}, "cpu")
    draws = random.Random(first)
    # Nobody records a reference as slowly or as fast as these styles speak.
    voices = [voice for voice in told(engine, CACHE) if "very" not in voice.name]
    spoken = recordings(engine, voices, first, draws)
    found: dict[str, Row] = {}
    seconds: list[float] = []
    for name, change in {**RIGHT, **WRONG}.items():
        misfits = 0
        for one in spoken:
            samples, text = change(draws, one)
            started = time.process_time()
            fit = fit_of(aligner, samples, text)
            seconds.append((time.process_time() - started) / (len(samples) / RATE))
            misfit = fit is not None and fit.misfit is not None
            misfits += misfit
            if misfit != (name in WRONG):
                print(f"  {name}: {len(samples) / RATE:.1f} s, {fit}: {text!r}")
        found[name] = Row(len(spoken), misfits)
    strange = sum(
        (fit := fit_of(aligner, speech(one.text), one.text)) is not None and fit.misfit is not None
        for one in spoken[:20]
    )
    found["espeak-ng, as it is said"] = Row(20, strange)
    rows = [("transcript", "recordings", "called a misfit")]
    rows += [(name, str(row.tried), str(row.misfits)) for name, row in found.items()]
    print(markdown(rows))
    print(f"\n{1000 * np.median(seconds):.0f} ms of CPU for a second of recording (median)")
    if options.out is not None:
        figures = {name: asdict(row) for name, row in found.items()}
        (options.out / "transcripts.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
