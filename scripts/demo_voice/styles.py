"""Voices and styles: what the labels and values of controlled mode mean here."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from scripts.demo_voice import codes
from scripts.demo_voice.codes import Ints

GENDERS = ("female", "male")
# Mean frequencies of the five pitch levels, in hertz.
PITCH_LEVELS = {"female": (150, 178, 207, 250, 310), "male": (102, 124, 146, 174, 208)}
SPEED_LEVELS = (0.69, 0.84, 1.0, 1.2, 1.45)  # times the teacher's own pace
# Tokens of each voice, each one of the 4^6 codes of the speaker quantizer.
GLOBALS = {"female": (0, 1365, 2730, 4095), "male": (4095, 2730, 1365, 0)}
TEACHER_HERTZ = 197.0  # its mean, over many sentences


@dataclass(frozen=True)
class Style:
    """Of one utterance; `hertz` and `pace` are aims, `values` is what came of them."""

    gender: str
    pitch: int  # level
    speed: int
    hertz: float
    pace: float


def mel(hertz: float) -> int:
    """Of a pitch_value token."""
    return round(1127 * np.log1p(hertz / 700))


def draw_pace(rng: random.Random) -> tuple[int, float]:
    """A speed level and a pace, half of the time moderate; some paces lie between the levels."""
    if rng.random() < 0.2:
        pace = float(np.exp(rng.uniform(np.log(0.62), np.log(1.6))))
        return _nearest(pace, SPEED_LEVELS), pace
    level = rng.choice((0, 1, 2, 2, 2, 3, 3, 4, 4))
    return level, SPEED_LEVELS[level] * rng.uniform(0.97, 1.03)


def draw_pitch(rng: random.Random, gender: str) -> tuple[int, float]:
    """A pitch level and a mean frequency; some lie between the levels."""
    levels = PITCH_LEVELS[gender]
    if rng.random() < 0.25:
        hertz = float(np.exp(rng.uniform(np.log(levels[0] * 0.95), np.log(levels[-1] * 1.1))))
        return _nearest(hertz, levels), hertz
    level = rng.randrange(5)
    return level, levels[level] * rng.uniform(0.98, 1.02)


def _nearest(value: float, levels: tuple[float, ...]) -> int:
    return int(np.abs(np.log(np.asarray(levels) / value)).argmin())


def values(symbols: Ints, pitches: Ints) -> tuple[int, int]:
    """pitch_value and speed_value of frames: mean mel of the voiced, syllables a second."""
    hertz = codes.frequencies(pitches)
    voiced = hertz[hertz > 0]
    pitch = mel(float(voiced.mean())) if len(voiced) else 0
    names = np.asarray(codes.SYMBOLS)[symbols]
    vowel = np.isin(names, list(codes.VOWELS))
    starts = int((vowel & (np.diff(names, prepend=-1) != 0)).sum())
    loud = np.flatnonzero(~np.isin(names, list(codes.PAUSES)))
    seconds = (loud[-1] - loud[0] + 1) * codes.FRAME_SECONDS if len(loud) else 1.0
    return pitch, int(np.clip(round(starts / seconds), 0, 10))
