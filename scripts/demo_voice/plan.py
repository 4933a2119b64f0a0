"""What the teacher is about to say: sounds and pitch in units, before any waveform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scripts.demo_voice import codes
from scripts.demo_voice.codes import Ints

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What the teacher is about to say: its phoneme ids, with a duration in units for each."""

    ids: Ints
    durations: Ints
    f0: Floats  # [units], hertz, 0 where unvoiced

    @property
    def symbols(self) -> Ints:
        """Symbol indices [units]."""
        return np.repeat(codes.symbols_of(self.ids), self.durations)

    def faster(self, factor: float) -> Plan:
        """With units left out, evenly; each sound keeps one at least."""
        ends = np.cumsum(self.durations)
        moved = np.maximum(np.diff(np.round(ends / factor), prepend=0).astype(np.int64), 1)
        durations = np.minimum(moved, self.durations)
        starts = np.repeat(ends - self.durations, durations)
        within = np.arange(durations.sum()) - np.repeat(np.cumsum(durations) - durations, durations)
        kept = starts + within * np.repeat(self.durations, durations) // np.repeat(
            durations, durations
        )
        return Plan(self.ids, durations, self.f0[kept])


def trimmed(plan: Plan) -> Ints:
    """Units to keep: the silence before and after cut short, the last sound not drawn out."""
    symbols = plan.symbols
    pauses = np.isin(np.asarray(codes.SYMBOLS)[symbols], list(codes.PAUSES))
    loud = np.flatnonzero(~pauses)
    if not len(loud):
        return np.arange(len(symbols))
    first, last = int(loud[0]), int(loud[-1])
    start = last
    while start > 0 and symbols[start - 1] == symbols[last]:
        start -= 1
    voiced = np.flatnonzero(plan.f0[start : last + 1] > 0)
    end = min(last + 1, start + int(voiced[-1]) + 6) if len(voiced) else min(last + 1, start + 8)
    return np.concatenate(
        [
            np.arange(max(0, first - 5), end),
            np.arange(last + 1, min(len(symbols), last + 7)),
        ]
    )
