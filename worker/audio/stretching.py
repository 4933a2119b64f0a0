"""How pitch and tempo are changed: by resampling, and by a stretcher that restores the length.

Resampling moves both together, with exact frequencies. Signalsmith Stretch then moves the tempo
alone; its own transposition is up to 2.5 % off at 100 Hz, where its analysis bands are wider than
the distance of the harmonics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from python_stretch import Signalsmith

PITCH_QUALITY = "VHQ"  # of the resampler

_SEED = 1
# Longer than what the stretcher reads around a sample, 0.06 * (tempo + ratio) seconds, at a tempo
# of 4 an octave up.
_EDGE_SECONDS = 0.4
# The stretcher rounds where it reads each block to whole samples. On this grid of factors none of
# these places lies within a fourteenth of the middle between two, where an error would choose.
_GRID = 7
_WHOLE = 0.01  # samples from a whole number that count as none
_MOST_PADDING = 512  # samples


@dataclass(frozen=True)
class Shifting:
    """Parts of one change of pitch and tempo, of one channel at `sample_rate` Hz.

    First all frequencies become `ratio` times as high, and the sound that much shorter; then it
    is made `factor` times as fast. `edge` samples of silence stand around it before, for the
    stretcher fades at both ends.
    """

    sample_rate: int
    ratio: float
    factor: float
    edge: int

    def stretch(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Make samples [n] `factor` times as fast: [n / factor] and maybe some more.

        What comes of the first ones does not depend on how many follow, but for the last `reach`
        of them: so a stream can be stretched too.
        """
        stretcher = _open(self.sample_rate, self.factor)
        padded = np.pad(samples, (0, _even_length(len(samples), self.factor) - len(samples)))
        stretched = np.asarray(stretcher.process(padded[np.newaxis]), dtype=np.float32)
        return stretched.reshape(-1)

    @property
    def reach(self) -> int:
        """How many samples behind its own place `stretch` reads for one that it gives, at most."""
        stretcher = _open(self.sample_rate, self.factor)
        return int(stretcher.inputLatency() + math.ceil(self.factor * stretcher.outputLatency()))


def plan_shift(sample_rate: int, semitones: float, tempo: float) -> Shifting:
    """The parts of a change of pitch by `semitones` and of tempo by the factor `tempo`.

    The tempo is exact. The pitch is to 0.02 %, 0.3 hundredths of a semitone, and up to eight times
    that where the factor is an eighth; for no semitones it stays as it is.
    """
    edge = round(_EDGE_SECONDS * sample_rate)
    if not semitones:
        return Shifting(sample_rate, 1.0, tempo, edge)
    grid = _GRID * int(_open(sample_rate, 1).intervalSamples())
    factor = round(grid * tempo / 2.0 ** (semitones / 12)) / grid
    return Shifting(sample_rate, tempo / factor, factor, edge)


def _open(sample_rate: int, factor: float) -> Signalsmith.Stretch:
    """Open a stretcher that draws the same phases each time."""
    stretcher = Signalsmith.Stretch(_SEED)
    stretcher.preset(1, sample_rate)
    stretcher.timeFactor = factor
    return stretcher


def _even_length(length: int, factor: float) -> int:
    """The least length from `length` on that `factor` makes a whole number, nearly.

    The stretcher rounds the length that it gives and spreads the error over all of it: what comes
    of the first samples would depend on how many follow.
    """
    lengths = np.arange(length, length + _MOST_PADDING)
    off = np.abs(lengths / factor - np.rint(lengths / factor))
    near = np.flatnonzero(off < _WHOLE)
    return length + int(near[0] if near.size else off.argmin())
