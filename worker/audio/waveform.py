"""Waveforms in memory: trimmed, shifted in pitch and tempo, kept from clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from worker.audio.stretching import PITCH_QUALITY, plan_shift
from worker.errors import SynthesisError

PEAK_DBFS = -1.0  # EBU R 128 recommends this true-peak limit for what will be coded lossily
WINDOW_SECONDS = 0.010  # loudness is measured in windows of this length
SPEECH_RANGE_DB = 50.0  # weak consonants lie up to some 40 dB below the loudest vowel
SPEECH_FLOOR_DBFS = -100.0  # below half a step of 16 bits, -96 dBFS: it rounds to zero
TRIM_MARGIN_SECONDS = 0.050

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Audio:
    """One channel of sound: `samples` float32 [n] in -1..1, `sample_rate` in Hz."""

    samples: Samples
    sample_rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Span:
    """A stretch of audio, from `start` to `end` in seconds."""

    start: float
    end: float


def trim(audio: Audio, *, margin: float = TRIM_MARGIN_SECONDS) -> Audio:
    """Cut leading and trailing silence, keeping `margin` seconds around what can be heard.

    Heard is a window within SPEECH_RANGE_DB of the loudest one and above SPEECH_FLOOR_DBFS.
    Audio in which nothing can be heard comes back empty.
    Raises SynthesisError for values that are not finite: they would pass for silence.
    """
    check_finite(audio)
    rms = window_rms(audio)
    threshold = max(
        rms.max(initial=0.0) * db_to_amplitude(-SPEECH_RANGE_DB), db_to_amplitude(SPEECH_FLOOR_DBFS)
    )
    heard = np.flatnonzero(rms > threshold)
    if heard.size == 0:
        return Audio(audio.samples[:0], audio.sample_rate)
    window = window_length(audio.sample_rate)
    keep = round(margin * audio.sample_rate)
    first = max(0, int(heard[0]) * window - keep)
    last = (int(heard[-1]) + 1) * window + keep
    return Audio(audio.samples[first:last], audio.sample_rate)


def shift(audio: Audio, semitones: float, tempo: float) -> Audio:
    """Change pitch by `semitones` and tempo by the factor `tempo`, each apart from the other.

    The result has exactly round(n / tempo) samples, and what was at t seconds is at t / tempo.
    Without any change the same object comes back.

    `stretching` says how.
    """
    if (semitones == 0 and tempo == 1) or len(audio.samples) == 0:
        return audio
    rate = audio.sample_rate
    parts = plan_shift(rate, semitones, tempo)
    edge = parts.edge
    samples = np.pad(audio.samples, edge)
    if parts.ratio != 1:
        samples = soxr.resample(samples, rate * parts.ratio, rate, quality=PITCH_QUALITY)
    stretched = parts.stretch(samples)
    start = round(edge / tempo)
    length = round(len(audio.samples) / tempo)
    return Audio(stretched[start : start + length], rate)


def limit_peak(audio: Audio) -> Audio:
    """Scale down what peaks above PEAK_DBFS; what is below stays as it is, the same object.

    Raises SynthesisError for values that are not finite.
    """
    gain = limiting_gain([audio.samples], audio.sample_rate)
    return audio if gain == 1 else Audio(audio.samples * gain, audio.sample_rate)


def limiting_gain(
    blocks: Iterable[Samples], sample_rate: int, limit_dbtp: float = PEAK_DBFS
) -> np.float32:
    """The factor that brings audio, given block by block, down to `limit_dbtp`; 1 below that.

    The peak is the true peak, between the samples too (ITU-R BS.1770: oversampled four times).
    Raises SynthesisError for values that are not finite.
    """
    between = soxr.ResampleStream(sample_rate, 4 * sample_rate, 1, dtype="float32", quality="HQ")
    peak = 0.0
    for block in blocks:
        check_finite(Audio(block, sample_rate))
        peak = max(peak, _highest(block), _highest(between.resample_chunk(block)))
    peak = max(peak, _highest(between.resample_chunk(np.zeros(0, np.float32), last=True)))
    limit = db_to_amplitude(limit_dbtp)
    return np.float32(1 if peak <= limit else limit / peak)


def _highest(samples: Samples) -> float:
    return float(np.abs(samples).max(initial=0.0))


def check_finite(audio: Audio) -> None:
    """Raise SynthesisError for NaN or infinite samples."""
    if not np.isfinite(audio.samples).all():
        raise SynthesisError("the model gave values that are not numbers; try another seed")


def window_length(sample_rate: int) -> int:
    """Samples in a window in which loudness is measured."""
    return max(1, round(WINDOW_SECONDS * sample_rate))


def window_rms(audio: Audio) -> npt.NDArray[np.float64]:
    """Root mean square of each window, [ceil(n / window)]; the last is filled with silence."""
    window = window_length(audio.sample_rate)
    padded = np.pad(audio.samples.astype(np.float64), (0, -len(audio.samples) % window))
    return np.asarray(np.sqrt(np.mean(np.square(padded.reshape(-1, window)), axis=1)))


def db_to_amplitude(decibels: float) -> float:
    """Amplitude of what has so many decibels relative to full scale (dBFS)."""
    return float(10.0 ** (decibels / 20))


def amplitude_to_db(amplitude: float) -> float:
    """Decibels relative to full scale (dBFS), not below -200."""
    return float(20 * np.log10(max(amplitude, 1e-10)))
