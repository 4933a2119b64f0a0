"""How speech that comes in pieces sounds to who plays it at once: first audio, and gaps.

Plain arithmetic on the times at which pieces came. Times are in seconds, on any one clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

AUDIBLE = 0.1  # seconds: a gap from here on is heard as a break


@dataclass
class Heard:
    """One stream as its client saw it."""

    asked: float  # when
    arrivals: list[tuple[float, float]] = field(default_factory=list)  # when, seconds of audio

    def add(self, when: float, seconds: float) -> None:
        """Note a piece; one without samples is none."""
        if seconds > 0:
            self.arrivals.append((when, seconds))

    @property
    def first_audio(self) -> float:
        """Seconds from the asking to the first samples. Raises ValueError where none came."""
        if not self.arrivals:
            raise ValueError("the stream gave no samples")
        return self.arrivals[0][0] - self.asked

    @property
    def audio(self) -> float:
        """Seconds of audio in all."""
        return sum(seconds for _when, seconds in self.arrivals)

    @property
    def worst_gap(self) -> float:
        """Seconds of the longest silence within the speech, for a player in real time."""
        return max(gaps(self.arrivals), default=0.0)


def gaps(arrivals: Sequence[tuple[float, float]]) -> list[float]:
    """The silence before each piece but the first: 0 where it came before the player ran out.

    The player starts with the first piece. Where it runs out it waits for the next one and goes on
    from there, so that a gap makes all that follows later, and is not counted again.
    """
    found = []
    ends = float("-inf")  # when the player has nothing left
    for place, (when, seconds) in enumerate(arrivals):
        if place:
            found.append(max(0.0, when - ends))
        ends = max(when, ends) + seconds
    return found


def continuity(worst: Iterable[float], audible: float = AUDIBLE) -> float:
    """The share of streams whose worst gap stays below what is audible. Raises of none."""
    values = list(worst)
    return sum(gap < audible for gap in values) / len(values)


def summary(streams: Sequence[Heard]) -> dict[str, float]:
    """Figures of streams that were heard at the same time, maybe in several rounds."""
    firsts = [one.first_audio for one in streams]
    worst = [one.worst_gap for one in streams]
    return {
        "streams": len(streams),
        "first_audio_p50": _percentile(firsts, 50),
        "first_audio_p95": _percentile(firsts, 95),
        "first_audio_p99": _percentile(firsts, 99),
        "continuity": round(continuity(worst), 4),
        "worst_gap_p95": _percentile(worst, 95),
        "worst_gap": round(max(worst), 4),
    }


def _percentile(values: Sequence[float], share: float) -> float:
    return round(float(np.percentile(values, share)), 4)
