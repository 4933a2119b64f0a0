"""Audio at another rate, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from worker.audio.waveform import Samples

QUALITY = "HQ"  # of the resampler: 20 bits


def resampled(blocks: Iterable[Samples], sample_rate: int, rate: int) -> Iterator[Samples]:
    """Give audio of `sample_rate` Hz at `rate` Hz: round(n * rate / sample_rate) samples in all.

    What was at t seconds is at t seconds.
    """
    if rate == sample_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(sample_rate, rate, 1, dtype="float32", quality=QUALITY)
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
