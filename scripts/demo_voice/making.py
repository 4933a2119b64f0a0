"""Makes the shards that data.py reads: with the teacher, and with a checkpoint that speaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers.normalizers import Normalizer

from scripts.demo_voice import codes, styles
from scripts.demo_voice.codes import FRAME
from scripts.demo_voice.data import Sound, scaled
from scripts.demo_voice.normalizer import normalizer, spoken
from scripts.demo_voice.plan import trimmed
from scripts.demo_voice.progress import Progress
from scripts.demo_voice.prose import Prose
from scripts.demo_voice.teacher import FORMANTS, Teacher
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import LEVELS, Style, Voice

PLANS, SOUNDS, OWN = 4000, 150, 320  # sentences in a shard
ROWS = 32  # of its own that are spoken at once
GAIN = 2.0
NONE = np.zeros(0, np.int16)  # one that never ends a sentence has nothing to learn from

Arrays = dict[str, npt.NDArray[np.generic]]


def make_plans(root: Path, wordnet: Path, shards: range) -> None:
    """Write the shards that are not there yet."""
    maker = _Maker(root, wordnet)
    _make(root / "plans", shards, lambda shard: maker.plans(random.Random(f"plans {shard}")))


def make_sounds(root: Path, wordnet: Path, shards: range) -> None:
    """Write the shards that are not there yet."""
    maker = _Maker(root, wordnet)
    _make(
        root / "sounds",
        shards,
        lambda shard: maker.sounds(random.Random(f"sounds {shard}"), np.random.default_rng(shard)),
    )


def make_own(root: Path, checkpoint: Path, wordnet: Path, shards: range) -> None:
    """Write the shards that are not there yet: what the checkpoint itself says, slips and all."""
    engine = Engine.load(checkpoint, "float32", "cpu")
    prose, read = Prose(wordnet), normalizer()

    def shard(number: int) -> Arrays:
        rng = random.Random(f"own {number}")
        return _packed(
            sound for _ in range(OWN // ROWS) for sound in _own(engine, prose, read, rng)
        )

    _make(root / "own", shards, shard)


def _own(engine: Engine, prose: Prose, read: Normalizer, rng: random.Random) -> Iterator[Sound]:
    """Some sentences in one voice, half of the time the cloned one, else of any style."""
    gender = rng.choice(styles.GENDERS)
    voice = Voice(styles.GLOBALS[gender])
    sampling = Sampling(temperature=0.8, max_tokens=1000, seed=rng.getrandbits(31))
    lines = [
        line for line in (prose.sentence(rng) for _ in range(ROWS)) if read.normalize_str(line)
    ]
    if rng.random() < 0.5:
        style = Style(gender=gender, pitch=rng.choice(LEVELS), speed=rng.choice(LEVELS[1:4]))
        voice = engine.design(style, lines[0], sampling).voice
    for line, said in zip(lines, engine.speak(lines, voice, sampling), strict=True):
        units = np.array(said.semantic_tokens, np.int64)
        if said.complete and said.samples.size == len(units) * FRAME:
            wave = (np.clip(said.samples, -1, 1) * 32767).astype(np.int16)
            yield Sound(read.normalize_str(line), gender, units, wave)


def _make(folder: Path, shards: range, shard: Callable[[int], Arrays]) -> None:
    """Each a file that is there whole or not at all."""
    folder.mkdir(exist_ok=True)
    progress = Progress(folder.name, len(shards))
    for number in shards:
        path = folder / f"{number:04}.npz"
        if not path.exists():
            new = path.with_suffix(".new")
            with new.open("wb") as file:
                np.savez(file, **shard(number))  # type: ignore[arg-type] # its stub takes none
            new.rename(path)
        progress.step()


class _Maker:
    """The teacher, reading what prose there is."""

    def __init__(self, root: Path, wordnet: Path) -> None:
        self._teacher, self._prose = Teacher(root), Prose(wordnet)
        self._speak, self._read = spoken(), normalizer()

    def plans(self, rng: random.Random) -> Arrays:
        """One shard: texts, symbols and pitch [frames], speed values."""
        texts, lengths, symbols, f0, speeds = [], [], [], [], []
        while len(texts) < PLANS:
            text = self._speak.normalize_str(self._prose.sentence(rng))
            speed = styles.draw_speed(rng)
            plan = self._teacher.plan(text, styles.PACES[speed]) if text else None
            if plan is None:
                continue
            keep = trimmed(plan)
            texts.append(self._read.normalize_str(text))
            lengths.append(len(keep))
            symbols.append(plan.symbols[keep].astype(np.uint8))
            f0.append(np.round(plan.f0[keep]).astype(np.uint16))
            speeds.append(speed)
        return {
            "texts": np.array("\n".join(texts)),
            "lengths": np.array(lengths),
            "symbols": np.concatenate(symbols),
            "f0": np.concatenate(f0),
            "speeds": np.array(speeds, np.uint8),
        }

    def sounds(self, rng: random.Random, noise: np.random.Generator) -> Arrays:
        """One shard, each sentence in both voices."""
        made: list[Sound] = []
        while len(made) < 2 * SOUNDS:
            text = self._speak.normalize_str(self._prose.sentence(rng))
            pace = styles.PACES[styles.draw_speed(rng)]
            taken = self._teacher.spectra(text, pace, rng.getrandbits(32)) if text else None
            if taken is None:
                continue
            plan, spectra = taken
            keep = trimmed(plan)
            for gender in styles.GENDERS:
                _, hertz = styles.draw_pitch(rng, gender)
                pitches = codes.quantise(scaled(plan.f0, hertz))
                wave = spectra.lowered(FORMANTS[gender]).sound(pitches, noise)
                wave = wave.reshape(-1, FRAME)[keep].reshape(-1) * GAIN
                units = codes.code(plan.symbols[keep], pitches[keep])
                samples = (np.clip(wave, -1, 1) * 32767).astype(np.int16)
                made.append(Sound(self._read.normalize_str(text), gender, units, samples))
        return _packed(made)


def _packed(sounds: Iterable[Sound]) -> Arrays:
    """A shard of sounds: texts, genders, codes [frames], samples."""
    rows = list(sounds)
    return {
        "texts": np.array("\n".join(row.text for row in rows)),
        "genders": np.array([styles.GENDERS.index(row.gender) for row in rows], np.uint8),
        "lengths": np.array([len(row.codes) for row in rows]),
        "codes": np.concatenate([NONE, *(row.codes for row in rows)]).astype(np.uint16),
        "samples": np.concatenate([NONE, *(row.samples for row in rows)]).astype(np.int16),
    }
