"""Makes the shards that data.py reads, with the teacher."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.demo_voice import codes, styles
from scripts.demo_voice.codes import FRAME
from scripts.demo_voice.data import scaled
from scripts.demo_voice.normalizer import normalizer, spoken
from scripts.demo_voice.progress import Progress
from scripts.demo_voice.prose import Prose
from scripts.demo_voice.teacher import FORMANTS, Teacher, trimmed

PLANS, SOUNDS = 4000, 150  # sentences in a shard
GAIN = 2.0

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
        """One shard: texts, symbols and pitch [frames], levels of speed."""
        texts, lengths, symbols, f0, levels = [], [], [], [], []
        while len(texts) < PLANS:
            text = self._speak.normalize_str(self._prose.sentence(rng))
            level, pace = styles.draw_pace(rng)
            plan = self._teacher.plan(text, pace) if text else None
            if plan is None:
                continue
            keep = trimmed(plan)
            texts.append(self._read.normalize_str(text))
            lengths.append(len(keep))
            symbols.append(plan.symbols[keep].astype(np.uint8))
            f0.append(np.round(plan.f0[keep]).astype(np.uint16))
            levels.append(level)
        return {
            "texts": np.array("\n".join(texts)),
            "lengths": np.array(lengths),
            "symbols": np.concatenate(symbols),
            "f0": np.concatenate(f0),
            "levels": np.array(levels, np.uint8),
        }

    def sounds(self, rng: random.Random, noise: np.random.Generator) -> Arrays:
        """One shard, each sentence in both voices: texts, codes [frames], samples."""
        texts, genders, units, waves = [], [], [], []
        while len(texts) < 2 * SOUNDS:
            text = self._speak.normalize_str(self._prose.sentence(rng))
            _, pace = styles.draw_pace(rng)
            made = self._teacher.spectra(text, pace, rng.getrandbits(32)) if text else None
            if made is None:
                continue
            plan, spectra = made
            keep = trimmed(plan)
            for gender in styles.GENDERS:
                _, hertz = styles.draw_pitch(rng, gender)
                pitches = codes.quantise(scaled(plan.f0, hertz))
                wave = spectra.lowered(FORMANTS[gender]).sound(pitches, noise)
                wave = wave.reshape(-1, FRAME)[keep].reshape(-1) * GAIN
                texts.append(self._read.normalize_str(text))
                genders.append(styles.GENDERS.index(gender))
                units.append(codes.code(plan.symbols[keep], pitches[keep]).astype(np.uint16))
                waves.append((np.clip(wave, -1, 1) * 32767).astype(np.int16))
        return {
            "texts": np.array("\n".join(texts)),
            "genders": np.array(genders, np.uint8),
            "lengths": np.array([len(unit) for unit in units]),
            "codes": np.concatenate(units),
            "samples": np.concatenate(waves),
        }
