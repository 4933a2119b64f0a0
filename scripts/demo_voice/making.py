"""Makes the shards that data.py reads, with the teacher."""

from __future__ import annotations

import random
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


def make_plans(root: Path, wordnet: Path, shards: range) -> None:
    """Write the shards that are not there yet."""
    teacher, prose, speak, read = Teacher(root), Prose(wordnet), spoken(), normalizer()
    folder = root / "plans"
    folder.mkdir(exist_ok=True)
    progress = Progress("plans", len(shards))
    for shard in shards:
        path = folder / f"{shard:04}.npz"
        if not path.exists():
            rng = random.Random(f"plans {shard}")
            texts, lengths, symbols, f0, levels = [], [], [], [], []
            while len(texts) < PLANS:
                text = speak.normalize_str(prose.sentence(rng))
                level, pace = styles.draw_pace(rng)
                plan = teacher.plan(text, pace) if text else None
                if plan is None:
                    continue
                keep = trimmed(plan)
                texts.append(read.normalize_str(text))
                lengths.append(len(keep))
                symbols.append(plan.symbols[keep].astype(np.uint8))
                f0.append(np.round(plan.f0[keep]).astype(np.uint16))
                levels.append(level)
            _write(
                path,
                texts=np.array("\n".join(texts)),
                lengths=np.array(lengths),
                symbols=np.concatenate(symbols),
                f0=np.concatenate(f0),
                levels=np.array(levels, np.uint8),
            )
        progress.step()


def make_sounds(root: Path, wordnet: Path, shards: range) -> None:
    """Write the shards that are not there yet."""
    teacher, prose, speak, read = Teacher(root), Prose(wordnet), spoken(), normalizer()
    folder = root / "sounds"
    folder.mkdir(exist_ok=True)
    progress = Progress("sounds", len(shards))
    for shard in shards:
        path = folder / f"{shard:04}.npz"
        if not path.exists():
            rng = random.Random(f"sounds {shard}")
            noise = np.random.default_rng(shard)
            texts, genders, units, waves = [], [], [], []
            while len(texts) < 2 * SOUNDS:
                text = speak.normalize_str(prose.sentence(rng))
                _, pace = styles.draw_pace(rng)
                made = teacher.spectra(text, pace, rng.getrandbits(32)) if text else None
                if made is None:
                    continue
                plan, spectra = made
                keep = trimmed(plan)
                for gender in styles.GENDERS:
                    _, hertz = styles.draw_pitch(rng, gender)
                    pitches = codes.quantise(scaled(plan.f0, hertz))
                    wave = spectra.lowered(FORMANTS[gender]).sound(pitches, noise)
                    wave = wave.reshape(-1, FRAME)[keep].reshape(-1) * GAIN
                    texts.append(read.normalize_str(text))
                    genders.append(styles.GENDERS.index(gender))
                    units.append(codes.code(plan.symbols[keep], pitches[keep]).astype(np.uint16))
                    waves.append((np.clip(wave, -1, 1) * 32767).astype(np.int16))
            _write(
                path,
                texts=np.array("\n".join(texts)),
                genders=np.array(genders, np.uint8),
                lengths=np.array([len(unit) for unit in units]),
                codes=np.concatenate(units),
                samples=np.concatenate(waves),
            )
        progress.step()


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """An .npz that is there whole or not at all."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    new.rename(path)
