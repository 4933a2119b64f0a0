"""The level of a whole speech: as loud as it was asked for, its peaks below their limit.

Audio is given as a function that begins it anew, for it is read more than once: to measure it, and
to write it. What is kept of it in between is the peak of each 2 ms.

What must become so loud that its peaks would pass the limit has them pressed: around each the gain
falls and rises again within a few hundredths of a second, slower than the lowest voice swings.
Speech that loses loudness by that gets more gain, until its highest peak is MOST_PRESSED dB lower
than it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.audio.loudness import loudness_of
from worker.audio.true_peaks import TruePeaks
from worker.audio.waveform import (
    Samples,
    amplitude_to_db,
    db_to_amplitude,
    limiting_gain,
)

MOST_PRESSED = 12.0  # dB
CLOSE_ENOUGH = 0.1  # LU

_FRAME_SECONDS = 0.002  # with one peak each
_REACH = 10  # frames on either side of a peak in which the gain changes
_PASSES = 5  # to come close
_LEAST_GIVEN = 0.1  # LU that a decibel of gain is taken to give
_MARGIN = 0.2  # dB: where the gain moves, a peak between two samples may be that much higher

Blocks = Callable[[], Iterable[Samples]]


@dataclass(frozen=True, eq=False)
class Level:
    """What brings audio to its level, and how loud it is then."""

    gain: float
    loudness: float | None = None  # LUFS; None where nobody asked, or nothing can be measured
    press: Press | None = None  # where the gain alone would bring peaks above the limit

    def applied(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Give the audio at its level, block by block: the same blocks that were measured."""
        if self.press is None:
            gain = np.float32(self.gain)
            return (block * gain for block in blocks)
        return self.press.applied(blocks)


def level(blocks: Blocks, sample_rate: int, *, loudness: float | None, true_peak: float) -> Level:
    """Find what brings audio to so many LUFS, with no peak above `true_peak` in dBTP.

    Without a loudness, audio is only made quieter where a peak passes the limit. So it is where
    nothing can be measured. Raises SynthesisError for values that are not finite.
    """
    found = None if loudness is None else loudness_of(blocks(), sample_rate)
    if loudness is None or found is None:
        return Level(float(limiting_gain(blocks(), sample_rate, true_peak)))
    gain = db_to_amplitude(loudness - found)
    peaks = _peaks_of(blocks(), sample_rate)
    if gain * peaks.max() <= db_to_amplitude(true_peak):
        return Level(gain, loudness)
    return _pressed(blocks, sample_rate, _Wanted(found, loudness, true_peak), peaks)


@dataclass(frozen=True)
class _Wanted:
    """How loud speech is and is to be, in LUFS, and its limit in dBTP."""

    found: float
    loudness: float
    true_peak: float


def _pressed(blocks: Blocks, sample_rate: int, wanted: _Wanted, peaks: Samples) -> Level:
    """The level of speech some peaks of which are pressed: tried until it is loud enough."""
    limit = db_to_amplitude(wanted.true_peak - _MARGIN)
    most = amplitude_to_db(limit / float(peaks.max())) + MOST_PRESSED
    before, reached = (0.0, wanted.found), wanted.found
    gain = wanted.loudness - wanted.found  # dB
    for _ in range(_PASSES):
        gain = min(gain, most)
        press = Press(peaks, sample_rate, db_to_amplitude(gain), limit)
        measured = loudness_of(press.applied(blocks()), sample_rate)
        reached = wanted.found if measured is None else measured
        missing = wanted.loudness - reached
        if gain == most or missing < CLOSE_ENOUGH:
            break
        # The more is pressed, the less a decibel of gain gives: as much as the last ones gave.
        step = gain - before[0]
        gives = max(_LEAST_GIVEN, (reached - before[1]) / step) if step else 1.0
        before = gain, reached
        gain += missing / gives
    return Level(press.gain, reached, press)


def _frame(sample_rate: int) -> int:
    """Samples in a frame."""
    return max(1, round(_FRAME_SECONDS * sample_rate))


def _peaks_of(blocks: Iterable[Samples], sample_rate: int) -> Samples:
    """The true peak in each frame [frames]."""
    frame, true_peaks = _frame(sample_rate), TruePeaks(0.0)
    rest: Samples = np.zeros(0, np.float32)
    found: list[Samples] = []

    def take(peaks: Samples, *, last: bool = False) -> Samples:
        peaks = np.concatenate([rest, peaks])
        if last:
            peaks = np.pad(peaks, (0, -len(peaks) % frame))
        whole = len(peaks) - len(peaks) % frame
        found.append(peaks[:whole].reshape(-1, frame).max(axis=1))
        return peaks[whole:]

    for block in blocks:
        rest = take(true_peaks.feed(block))
    take(true_peaks.feed(np.zeros(0, np.float32), last=True), last=True)
    return np.concatenate(found)


class Press:
    """A gain that falls around each peak that would pass the limit."""

    def __init__(self, peaks: Samples, sample_rate: int, gain: float, limit: float) -> None:
        """`peaks` [frames] are those before the gain; `limit` is an amplitude."""
        self._peaks = peaks
        self._frame = _frame(sample_rate)
        self.gain = gain
        self._limit = limit
        weights = np.hanning(2 * _REACH + 3)[1:-1]
        self._weights = weights / weights.sum()

    def applied(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Give the audio with its gain, block by block."""
        place = 0  # samples
        for block in blocks:
            yield block * self._gains(place, len(block))
            place += len(block)

    def _gains(self, start: int, count: int) -> Samples:
        """The gain of each sample [count] from `start` on: straight lines between the frames."""
        if not count:
            return np.zeros(0, np.float32)
        places = np.arange(start, start + count)
        first = start // self._frame
        frames = places // self._frame - first
        part = (places % self._frame) / self._frame
        ends = self._of_frames(first, int(frames[-1]) + 2)
        gains = ends[frames] + part * (ends[frames + 1] - ends[frames])
        return gains.astype(np.float32)

    def _of_frames(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """The gain at the start of each frame: none above what this one and the one before need.

        The least that the frames around need, and then their mean: so it is smooth, and low
        enough.
        """
        wide = 2 * _REACH + 1
        edge = slice(max(0, first - wide), first + count + wide)
        before = edge.start - (first - wide)
        known = self._peaks[edge]
        needed = np.full(count + 2 * wide, self.gain)
        highest = np.maximum(known, self._limit / self.gain)
        needed[before : before + len(known)] = self._limit / highest
        around = np.lib.stride_tricks.sliding_window_view(needed, 2 * _REACH + 3)
        return np.convolve(around.min(axis=1), self._weights, mode="valid")
