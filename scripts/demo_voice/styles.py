"""Voices and styles: what the labels and values of controlled mode mean here."""

from __future__ import annotations

import random

import numpy as np

from scripts.demo_voice import codes
from scripts.demo_voice.codes import Ints

GENDERS = ("female", "male")
# Mean frequencies of the five pitch levels, in hertz.
PITCH_LEVELS = {"female": (150, 178, 207, 250, 310), "male": (102, 124, 146, 174, 208)}
# How fast each speed_value 0..10 is spoken, in times the teacher's own pace: about as many
# syllables a second, in prose. The teacher rounds each sound to whole units, so its speech gets
# faster in jumps; from a level to the next it is a quarter.
PACES = (0.48, 0.48, 0.48, 0.54, 0.70, 0.92, 1.08, 1.42, 1.65, 1.8, 1.8)
SPEED_LEVELS = (3, 4, 5, 6, 7)  # their values
MODERATE = SPEED_LEVELS[2]  # the value of cloned voices
# Tokens of each voice, each one of the 4^6 codes of the speaker quantizer.
GLOBALS = {"female": (0, 1365, 2730, 4095), "male": (4095, 2730, 1365, 0)}


def mel(hertz: float) -> int:
    """Of a pitch_value token."""
    return round(1127 * np.log1p(hertz / 700))


def draw_speed(rng: random.Random) -> int:
    """A speed_value: half of the time moderate, now and then one of no level."""
    if rng.random() < 0.08:
        return rng.randrange(len(PACES))
    return rng.choice((MODERATE,) * 5 + SPEED_LEVELS)


def speed_level(value: int) -> int:
    """The level nearest to a speed_value."""
    return min(max(value - SPEED_LEVELS[0], 0), len(SPEED_LEVELS) - 1)


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


def pitch_value(pitches: Ints) -> int:
    """Of frames: the mean mel of the voiced."""
    hertz = codes.frequencies(pitches)
    voiced = hertz[hertz > 0]
    return mel(float(voiced.mean())) if len(voiced) else 0
