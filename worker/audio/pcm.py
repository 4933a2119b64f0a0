"""Samples as whole numbers of 16 bits: the same in every file and stream."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from worker.audio.waveform import Samples


def to_pcm16(samples: Samples) -> npt.NDArray[np.int16]:
    """Samples float32 [n] in -1..1 as steps of 16 bits [n]: rounded, not dithered, and cut off."""
    steps: npt.NDArray[np.float32] = np.clip(np.rint(samples * 32768.0), -32768, 32767)
    return steps.astype(np.int16)
