"""The judge's sentences as the embedded model speaks them, in every built-in voice and style.

The tokens and how loud they are lie below .cache, so that a second run need not speak.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.demo_voice import clip
from scripts.demo_voice.sentences import sections
from worker.audio.waveform import Audio, window_rms
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.voice import GENDERS, LEVELS, Style, Voice
from worker.voices.builtin import BUILTIN, DESIGN_TEXT, Design

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "volume" / "demo" / "checkpoint"
RECORDING = ROOT / "volume" / "demo" / "voices" / "demo.wav"
RATE = 16_000
SAMPLING = Sampling(temperature=0.8, top_k=50, top_p=0.95, max_tokens=3000, seed=7)


@dataclass(frozen=True)
class Sentence:
    """A sentence in semantic tokens."""

    text: str
    tokens: tuple[int, ...]
    complete: bool
    levels: tuple[float, ...] = ()  # of what the codec made of them, each 10 ms


@dataclass(frozen=True)
class Told:
    """All sentences in one voice."""

    name: str
    voice: Voice
    sentences: tuple[Sentence, ...]


def lines() -> list[str]:
    """The sentences that the judge of the demo voice hears."""
    return [line for section in sections().values() for line in section]


def told(engine: Engine, cache: Path) -> Iterator[Told]:
    """Every voice with its sentences, spoken now or before."""
    cache.mkdir(parents=True, exist_ok=True)
    texts = lines()
    for name, voice in _voices(engine):
        file = cache / f"{name.replace(' ', '_').replace(',', '')}.json"
        if not file.is_file():
            spoken = engine.speak(texts, voice, SAMPLING)
            found = [
                asdict(Sentence(text, one.semantic_tokens, one.complete, _levels(one)))
                for text, one in zip(texts, spoken, strict=True)
            ]
            file.write_text(json.dumps(found))
        rows = json.loads(file.read_text())
        yield Told(name, voice, tuple(_sentence(**row) for row in rows))


def _sentence(
    text: str, tokens: Sequence[int], levels: Sequence[float], *, complete: bool
) -> Sentence:
    return Sentence(text, tuple(tokens), complete, tuple(levels))


def _levels(one: Utterance) -> tuple[float, ...]:
    return tuple(window_rms(Audio(one.samples, RATE)).round(7).tolist())


def _voices(engine: Engine) -> Iterator[tuple[str, Voice]]:
    for name, design in BUILTIN.items():
        if isinstance(design, Design):
            sampling = Sampling(seed=design.seed)
            yield name, engine.design(design.style, DESIGN_TEXT, sampling).voice
    for gender in GENDERS:
        for level in (LEVELS[0], LEVELS[-1]):
            style = Style(gender=gender, speed=level)
            yield f"{gender}, {level}", engine.design(style, "Good morning.", SAMPLING).voice
    yield "cloned", engine.listen(RECORDING)
    yield "cloned, with transcript", engine.listen(RECORDING, clip.TEXT)
