"""Speech whose every word stands at a known time: espeak-ng's words, pasted by the test."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT
_UTF8 = 1
_AUDIBLE = 0.02  # of the peak

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Spoken:
    """Samples [n] at 16 kHz and where each word lies in them, in seconds."""

    samples: NDArray[np.float32]
    words: tuple[tuple[str, float, float], ...]

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The library and its sample rate."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise RuntimeError("espeak-ng did not start")
    return library, rate


@cache
def speak(text: str) -> NDArray[np.float32]:
    """Samples [n] of the text, without the silence before and after it."""
    library, rate = _library()
    parts: list[NDArray[np.int16]] = []

    def collect(wave: ctypes._Pointer[ctypes.c_short], count: int, _events: object) -> int:
        if wave and count:
            parts.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = soxr.resample(np.concatenate(parts).astype(np.float32) / 32768, rate, SAMPLE_RATE)
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE * np.abs(samples).max())
    return samples[audible[0] : audible[-1] + 1]


def paste(words: Sequence[str], pauses: Sequence[float]) -> Spoken:
    """Speak each word alone; pauses[i] seconds come before word i, the last one after all."""
    parts = [np.zeros(round(pauses[0] * SAMPLE_RATE), np.float32)]
    at = parts[0].size
    placed: list[tuple[str, float, float]] = []
    for word, pause in zip(words, pauses[1:], strict=True):
        sound = speak(word)
        placed.append((word, at / SAMPLE_RATE, (at + sound.size) / SAMPLE_RATE))
        parts += [sound, np.zeros(round(pause * SAMPLE_RATE), np.float32)]
        at += sound.size + parts[-1].size
    return Spoken(np.concatenate(parts), tuple(placed))
