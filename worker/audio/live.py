"""The stages of audio as streams: samples in as they are made, out as soon as they are final.

Each is `waveform`'s stage of the same name, for who cannot wait for the end. However the samples
are cut into calls, the same ones come out. One thread at a time feeds a stage.
"""

from __future__ import annotations

import math

import numpy as np
import soxr

from worker.audio.stretching import PITCH_QUALITY, plan_shift
from worker.audio.true_peaks import TruePeaks
from worker.audio.waveform import (
    PEAK_DBFS,
    SPEECH_FLOOR_DBFS,
    SPEECH_RANGE_DB,
    TRIM_MARGIN_SECONDS,
    Audio,
    Samples,
    check_finite,
    db_to_amplitude,
    trim,
    window_length,
    window_rms,
)

# A window louder than this begins a sentence: SPEECH_RANGE_DB below a voice whose loudest window
# has -15 dBFS, which trim can wait for. The embedded model's voices have -15 to -11, and all of 126
# sentences came as trim leaves them, with every limit from -80 to -55. Of espeak's voices, made as
# quiet as -33, none began more than 10 ms later; 5 dB more make that 20, 5 dB less pass more noise.
START_DBFS = -65.0

_STEP_SECONDS = 0.06  # of what is shifted, before the first of it leaves
_GROWTH = 8  # each time an eighth more is shifted than was before
_FADE_SECONDS = 0.005  # where two runs of the stretcher meet
_ATTACK_SECONDS = 0.005  # in which the gain falls before a peak

_NONE = np.zeros(0, np.float32)


class LiveTrim:
    """Cuts the silence before and after one sentence, as waveform.trim does.

    Silence is held back until speech follows it, and dropped at the end. A sentence that never
    comes up to START_DBFS is held back to its end, and then trimmed as a whole.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._window = window_length(sample_rate)
        self._margin = round(TRIM_MARGIN_SECONDS * sample_rate)
        self._held: Samples = _NONE
        self._given = 0  # samples that have left or been dropped, before those held
        self._unmeasured: Samples = _NONE  # a window that is not whole yet
        self._measured = 0  # samples before that
        self._loudest = 0.0
        self._end: int | None = None  # of what was heard so far, with its margin

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left.

        Raises SynthesisError for values that are not finite.
        """
        check_finite(Audio(samples, self._sample_rate))
        self._held = np.concatenate([self._held, samples])
        self._measure(samples, last=last)
        if self._end is None:
            return trim(Audio(self._held, self._sample_rate)).samples if last else _NONE
        ready = max(0, self._end - self._given)
        given, self._held = self._held[:ready], self._held[ready:]
        self._given += len(given)
        return given

    def _measure(self, samples: Samples, *, last: bool) -> None:
        """Find what is heard in the windows that are whole now; at the end the last one too."""
        fresh = np.concatenate([self._unmeasured, samples])
        whole = len(fresh) if last else len(fresh) - len(fresh) % self._window
        self._unmeasured = fresh[whole:]
        for level in window_rms(Audio(fresh[:whole], self._sample_rate)):
            self._loudest = max(self._loudest, float(level))
            floor = START_DBFS if self._end is None else SPEECH_FLOOR_DBFS
            threshold = max(
                self._loudest * db_to_amplitude(-SPEECH_RANGE_DB), db_to_amplitude(floor)
            )
            if level > threshold:
                if self._end is None:
                    self._begin(max(0, self._measured - self._margin))
                self._end = self._measured + self._window + self._margin
            self._measured += self._window

    def _begin(self, first: int) -> None:
        """Drop what lies before the sample `first`."""
        self._held = self._held[first:]
        self._given = first


class LiveShift:
    """Changes pitch and tempo of one sentence, as waveform.shift does, nearly always to the bit.

    The stretcher takes whole pieces alone, but what it makes of the first samples does not depend
    on those that follow later. So it is given all that there is of the sentence, each time an
    eighth more, and what is new and final leaves: that costs eight times what waveform.shift does.
    """

    def __init__(self, sample_rate: int, semitones: float, tempo: float) -> None:
        self._changes = semitones != 0 or tempo != 1
        self._tempo = tempo
        self._parts = parts = plan_shift(sample_rate, semitones, tempo)
        self._resampler = (
            soxr.ResampleStream(sample_rate * parts.ratio, sample_rate, 1, quality=PITCH_QUALITY)
            if parts.ratio != 1
            else None
        )
        self._fade = round(_FADE_SECONDS * sample_rate)
        self._step = round(_STEP_SECONDS * sample_rate / parts.ratio)
        self._reach = parts.reach
        self._fed = 0  # samples
        self._source: Samples = _NONE  # for the stretcher: silence, then what was fed, resampled
        self._before = round(parts.edge / parts.ratio)  # samples of that silence
        self._due = self._before + self._reach + math.ceil(self._fade * parts.factor) + self._step
        self._start = round(parts.edge / tempo)  # of the speech, in what the stretcher gives
        self._given = 0  # samples
        self._overlap: Samples = _NONE  # what the last run gave behind them

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left."""
        if not self._changes:
            return samples
        silence = np.zeros(self._parts.edge, np.float32)
        if not self._fed and len(samples):
            self._take(silence)
        self._fed += len(samples)
        self._take(samples)
        given = [_NONE]
        while len(self._source) >= self._due:
            source = self._source[: self._due]
            end = math.floor((len(source) - self._reach) / self._parts.factor)
            given.append(self._stretch(source, end - self._fade))
            self._due += max(self._step, (self._due - self._before) // _GROWTH)
        if last and self._fed:
            self._take(silence, last=True)
            given.append(self._stretch(self._source, self._start + round(self._fed / self._tempo)))
        return np.concatenate(given)

    def _take(self, samples: Samples, *, last: bool = False) -> None:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._source = np.concatenate([self._source, samples])

    def _stretch(self, source: Samples, end: int) -> Samples:
        """Give what is new up to `end`, in samples that the stretcher gives."""
        first = self._start + self._given
        if end <= first:
            return _NONE
        stretched = self._parts.stretch(source)
        seam = stretched[first : first + len(self._overlap)]
        # As a rule the two are the same, and so the sum is too.
        rising = np.linspace(0, 1, len(seam) + 2, dtype=np.float32)[1:-1]
        seam += (1 - rising) * (self._overlap - seam)
        self._given = end - self._start
        self._overlap = stretched[end : end + self._fade]
        return stretched[first:end]


class LiveLimiter:
    """Keeps a whole stream below a limit in dBTP: its gain falls where it must, and stays there.

    Before a peak the gain falls smoothly, within _ATTACK_SECONDS, to what the peak needs, and does
    not rise again: after the highest peak it is the gain that the file of the whole would have.
    """

    def __init__(self, sample_rate: int, limit_dbtp: float = PEAK_DBFS) -> None:
        self._sample_rate = sample_rate
        self._limit = np.float32(db_to_amplitude(limit_dbtp))
        self._peaks = TruePeaks(float(self._limit))
        ahead = round(_ATTACK_SECONDS * sample_rate)
        # Weights of the gains at this sample and the next: a fall without corners.
        weights = np.hanning(ahead + 3)[1:-1]
        self._weights = (weights / weights.sum()).astype(np.float32)
        self._held: Samples = _NONE
        self._gains: Samples = _NONE  # that the samples held need, and none before needed less
        self._lowest = np.float32(1)

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """Take the next samples and give the next ones [n]; after the `last` all that are left.

        Raises SynthesisError for values that are not finite.
        """
        check_finite(Audio(samples, self._sample_rate))
        self._held = np.concatenate([self._held, samples])
        self._need(self._peaks.feed(samples, last=last))
        ahead = len(self._weights) - 1
        if last:
            self._gains = np.concatenate([self._gains, np.full(ahead, self._lowest)])
        ready = max(0, len(self._gains) - ahead)
        given = self._held[:ready] * self._smooth(ready)
        self._held, self._gains = self._held[ready:], self._gains[ready:]
        return given

    def _need(self, peaks: Samples) -> None:
        """Note the gains that the next samples need, by the true peaks around them."""
        gains = self._limit / np.maximum(peaks, self._limit)
        gains = np.minimum.accumulate(np.concatenate([[self._lowest], gains]))[1:]
        self._gains = np.concatenate([self._gains, gains])
        self._lowest = self._gains[-1] if len(gains) else self._lowest

    def _smooth(self, count: int) -> Samples:
        """The gains of the next `count` samples."""
        needed = self._gains[:count]
        ahead = len(self._weights) - 1
        steady = needed == self._gains[ahead : ahead + count]  # they never rise
        if steady.all():
            return needed
        smooth = np.zeros(count, np.float32)
        for k, weight in enumerate(self._weights):
            smooth += weight * self._gains[k : k + count]
        return np.where(steady, needed, np.minimum(smooth, needed))
