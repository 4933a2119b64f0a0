"""The stages of audio as streams: samples in as they are made, out as soon as they are final.

Each is `waveform`'s stage of the same name, for who cannot wait for the end.
"""

from __future__ import annotations

import numpy as np

from worker.audio import waveform
from worker.audio.waveform import Audio, Samples


class LiveTrim:
    """Cuts the silence before and after one sentence, as waveform.trim does."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._fed: list[Samples] = []

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left."""
        self._fed.append(samples)
        if not last:
            return samples[:0]
        return waveform.trim(Audio(np.concatenate(self._fed), self._sample_rate)).samples


class LiveShift:
    """Changes pitch and tempo of one sentence, as waveform.shift does."""

    def __init__(self, sample_rate: int, semitones: float, tempo: float) -> None:
        self._sample_rate = sample_rate
        self._semitones, self._tempo = semitones, tempo
        self._fed: list[Samples] = []

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left."""
        if self._semitones == 0 and self._tempo == 1:
            return samples
        self._fed.append(samples)
        if not last:
            return samples[:0]
        whole = Audio(np.concatenate(self._fed), self._sample_rate)
        return waveform.shift(whole, self._semitones, self._tempo).samples


class LiveLimiter:
    """Keeps a whole stream below PEAK_DBFS: its gain falls where it must, and stays there."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._fed: list[Samples] = []

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left."""
        self._fed.append(samples)
        if not last:
            return samples[:0]
        return waveform.limit_peak(Audio(np.concatenate(self._fed), self._sample_rate)).samples
