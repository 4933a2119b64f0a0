"""How loud speech is: ITU-R BS.1770's gated loudness in LUFS, as EBU R 128 has it, by ffmpeg.

It is that of the one channel. Players that give it to two loudspeakers make it 3 LU louder, as they
do with every file of one channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from worker.audio.waveform import Samples

BLOCK_SECONDS = 0.4  # of a gating block: nothing shorter has a loudness
SILENCE = -70.0  # LUFS: blocks below it count for nothing


def loudness_of(blocks: Iterable[Samples], sample_rate: int) -> float | None:
    """The loudness of audio, given block by block, in LUFS; None for what is below SILENCE.

    Less than BLOCK_SECONDS is measured as if it were said again and again.
    """
    meter = _Meter(sample_rate)
    least = round(BLOCK_SECONDS * sample_rate)
    short: list[Samples] = []  # all that there is, as long as that is no block
    length = 0
    for block in blocks:
        if length < least:
            short.append(block)
        length += len(block)
        meter.feed(block)
    if 0 < length < least:
        once = np.concatenate(short)
        meter = _Meter(sample_rate)
        meter.feed(np.resize(once, sample_rate))
    return meter.finish()


class _Meter:
    """ffmpeg's filter ebur128, fed piece by piece."""

    def __init__(self, sample_rate: int) -> None:
        # ffmpeg's libraries are large: a worker that measures nothing never reads them.
        import av.filter  # noqa: PLC0415

        self._av = av
        self._time_base = Fraction(1, sample_rate)
        graph = av.filter.Graph()
        graph.threads = 1  # of its own: none
        self._source = graph.add_abuffer(
            sample_rate=sample_rate, format="flt", layout="mono", time_base=self._time_base
        )
        meter = graph.add("ebur128", "metadata=1")
        self._end = graph.add("abuffersink")
        self._source.link_to(meter)
        meter.link_to(self._end)
        graph.configure()
        self._graph = graph
        self._fed = 0  # samples
        self._found: float | None = None

    def feed(self, samples: Samples) -> None:
        """Measure the next samples [n]."""
        if not len(samples):
            return
        frame = self._av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples)[np.newaxis], format="flt", layout="mono"
        )
        frame.sample_rate = self._time_base.denominator
        frame.time_base = self._time_base
        frame.pts = self._fed
        self._fed += len(samples)
        self._source.push(frame)
        self._pull()

    def finish(self) -> float | None:
        """The loudness of all."""
        self._source.push(None)
        self._pull()
        return self._found

    def _pull(self) -> None:
        """Take what has passed the filter: each tenth of a second says how loud it was so far."""
        while True:
            try:
                told = self._end.pull().metadata.get("lavfi.r128.I")
            except (self._av.BlockingIOError, self._av.EOFError):
                return
            if told is not None:
                found = float(told)
                self._found = found if found > SILENCE else None
