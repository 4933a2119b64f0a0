"""Loudness and true peaks computed anew, after ITU-R BS.1770-4, and by other libraries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import lfilter

RATE = 48_000  # Hz, at which the recommendation gives its filters
# Its tables 1 and 2: a shelf as a head has it, then a high-pass.
_STAGES = (
    (
        (1.53512485958697, -2.69169618940638, 1.19839281085285),
        (1.0, -1.69065929318241, 0.73248077421585),
    ),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


def bs1770(samples: npt.NDArray[np.float32], rate: int) -> float:
    """The gated loudness of one channel, in LUFS; -inf where nothing is above the gates."""
    sound = np.asarray(samples, np.float64)
    if rate != RATE:
        sound = soxr.resample(sound, rate, RATE, quality="VHQ")
    for above, below in _STAGES:
        sound = lfilter(above, below, sound)
    block, step = round(0.4 * RATE), round(0.1 * RATE)
    starts = range(0, len(sound) - block + 1, step)
    powers = np.array([np.mean(np.square(sound[start : start + block])) for start in starts])
    powers = powers[_lufs(powers) > -70]
    if not len(powers):
        return float("-inf")
    kept = powers[_lufs(powers) > _lufs(powers.mean()) - 10]
    return float(_lufs(kept.mean()))


def _lufs(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(power, 1e-30)))


def true_peak(samples: npt.NDArray[np.float32], rate: int) -> float:
    """The highest peak in dBTP, oversampled eight times."""
    wave = soxr.resample(np.asarray(samples, np.float64), rate, 8 * rate, quality="VHQ")
    return float(20 * np.log10(max(np.abs(wave).max(), np.abs(samples).max(), 1e-12)))
