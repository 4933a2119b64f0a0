"""Speech whose every word stands at a known time: espeak-ng's words, pasted by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tests.support.sounds import Samples, speech

SAMPLE_RATE = 16_000
_AUDIBLE = 0.02  # of the peak


@dataclass(frozen=True)
class Pasted:
    """Samples [n] at 16 kHz, and each word with the seconds at which it begins and ends."""

    samples: Samples
    words: tuple[tuple[str, float, float], ...]

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE


def paste(words: Sequence[str], pauses: Sequence[float], voice: str = "en") -> Pasted:
    """Speak each word alone; pauses[i] seconds come before word i, the last one after all."""
    parts = [np.zeros(round(pauses[0] * SAMPLE_RATE), np.float32)]
    at = parts[0].size
    placed: list[tuple[str, float, float]] = []
    for word, pause in zip(words, pauses[1:], strict=True):
        sound = _without_silence(word, voice)
        placed.append((word, at / SAMPLE_RATE, (at + sound.size) / SAMPLE_RATE))
        parts += [sound, np.zeros(round(pause * SAMPLE_RATE), np.float32)]
        at += sound.size + parts[-1].size
    return Pasted(np.concatenate(parts), tuple(placed))


@lru_cache(maxsize=256)
def _without_silence(word: str, voice: str) -> Samples:
    """The word from its first audible sample to its last one."""
    samples = speech(word, voice=voice)
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE * np.abs(samples).max())
    return samples[audible[0] : audible[-1] + 1]
