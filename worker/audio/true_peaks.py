"""The true peak around each sample of a stream: what the wave reaches between the samples too.

As ITU-R BS.1770 has it: oversampled four times. Every value is made by the same operations however
the stream is cut, so that the results are the same to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.audio.waveform import Samples

OVERSAMPLING = 4
REACH = 12  # samples on either side from which a place between two is computed

_WINDOW_BETA = 6.0  # of the Kaiser window over the sinc


def _interpolators() -> npt.NDArray[np.float32]:
    """Weights [OVERSAMPLING - 1, 2 * REACH] of the samples around a place between two of them."""
    places = np.arange(1, OVERSAMPLING)[:, np.newaxis] / OVERSAMPLING
    distances = np.arange(2 * REACH) - (REACH - 1) - places
    window = np.i0(_WINDOW_BETA * np.sqrt(1 - np.square(distances / REACH))) / np.i0(_WINDOW_BETA)
    weights = np.sinc(distances) * window
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


class TruePeaks:
    """Finds the true peak around each sample; REACH samples late, but at the end.

    Where nothing can reach `least` it gives the samples' own, which cost less.
    """

    def __init__(self, least: float) -> None:
        self._weights = _interpolators()
        self._quiet = least / float(np.abs(self._weights).sum(axis=1).max())
        self._samples: Samples = np.zeros(REACH, np.float32)  # from REACH before the next on

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples; give the peaks [n] around the next ones, after the `last` all."""
        after = np.zeros(REACH if last else 0, np.float32)
        around = np.concatenate([self._samples, samples, after])
        count = max(0, len(around) - 2 * REACH)
        self._samples = around[count:]
        here: Samples = np.abs(around[REACH : REACH + count])
        if not count or np.abs(around).max() <= self._quiet:
            return here
        between = np.zeros(count + 1, np.float32)  # before the first, ..., behind the last
        for weights in self._weights:
            wave = np.zeros(count + 1, np.float32)
            for k, weight in enumerate(weights):
                wave += weight * around[k : k + count + 1]
            np.maximum(between, np.abs(wave), out=between)
        np.maximum(here, between[:-1], out=here)
        np.maximum(here, between[1:], out=here)
        return here
