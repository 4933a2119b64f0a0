"""Makers of test audio: tones, clicks, and real speech, which espeak-ng synthesises on the spot."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from functools import lru_cache

import espeakng_loader
import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A spoken word and the second at which it begins."""

    text: str
    start: float


@dataclass(frozen=True)
class Spoken:
    """Speech, float32 [n] and read-only, and its words in order."""

    samples: Samples
    words: tuple[Word, ...]


def tone(frequency: float, seconds: float, rate: int = 16_000, amplitude: float = 0.5) -> Samples:
    """A sine, float32 [seconds * rate]."""
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def clicks(positions: list[int], length: int, amplitude: float = 0.9) -> Samples:
    """Single samples at `positions` in silence, float32 [length]."""
    samples = np.zeros(length, dtype=np.float32)
    samples[positions] = amplitude
    return samples


def speech(text: str, rate: int = 16_000, voice: str = "en", pace: int = 175) -> Samples:
    """`text` spoken by espeak-ng at `pace` words a minute, float32 [n] with a peak of 0.8."""
    return spoken(text, rate, voice, pace).samples.copy()


@lru_cache(maxsize=64)
def spoken(text: str, rate: int = 16_000, voice: str = "en", pace: int = 175) -> Spoken:
    """As `speech`, with the second at which each word begins."""
    espeak = _espeak()
    pcm, events = espeak.speak(text, voice, pace)
    samples = pcm.astype(np.float32) / 32768
    if espeak.rate != rate:
        samples = soxr.resample(samples, espeak.rate, rate, quality="VHQ")
    samples *= np.float32(0.8) / np.abs(samples).max()
    samples.setflags(write=False)
    words = (
        Word(text[event.text_position - 1 :][: event.length], event.sample / espeak.rate)
        for event in events
    )
    return Spoken(samples, tuple(words))


class _Id(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h; text_position counts characters from 1."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


@dataclass(frozen=True)
class _WordEvent:
    text_position: int
    length: int
    sample: int


class _Espeak:
    """The library, which has one voice and one callback for the whole process: hence the lock."""

    _SYNCHRONOUS, _CHARS_UTF8, _POSITION_CHARACTER, _PARAMETER_PACE = 2, 1, 1, 1
    _LAST_EVENT, _WORD_EVENT = 0, 1

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._lock = threading.Lock()
        data = espeakng_loader.get_data_path().encode()
        self.rate: int = self._library.espeak_Initialize(self._SYNCHRONOUS, 0, data, 0)
        assert self.rate > 0, "espeak-ng did not start"

    def speak(
        self, text: str, voice: str, pace: int
    ) -> tuple[npt.NDArray[np.int16], list[_WordEvent]]:
        blocks: list[npt.NDArray[np.int16]] = []
        words: list[_WordEvent] = []

        @ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        def receive(wave, count, events) -> int:
            if wave and count > 0:
                blocks.append(np.ctypeslib.as_array(wave, (count,)).copy())
            index = 0
            while events[index].type != self._LAST_EVENT:
                event = events[index]
                if event.type == self._WORD_EVENT:
                    words.append(_WordEvent(event.text_position, event.length, event.sample))
                index += 1
            return 0

        encoded = text.encode()
        with self._lock:
            self._library.espeak_SetSynthCallback(receive)
            assert self._library.espeak_SetVoiceByName(voice.encode()) == 0, f"no voice {voice}"
            self._library.espeak_SetParameter(self._PARAMETER_PACE, pace, 0)
            failed = self._library.espeak_Synth(
                encoded,
                ctypes.c_size_t(len(encoded) + 1),
                0,
                self._POSITION_CHARACTER,
                0,
                self._CHARS_UTF8,
                None,
                None,
            )
            assert failed == 0, f"espeak-ng could not speak {text!r}"
        return np.concatenate(blocks), words


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()
