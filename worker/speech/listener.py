"""When one who listens to a stream needs more of it."""

from __future__ import annotations

import time

FIRST_DUE = 0.1  # seconds after which a listener should hear something
AHEAD = 0.15  # seconds before the audio runs out that more should be on its way
NEVER = float("inf")  # when nobody waits for it


class Listener:
    """A player that begins with the first samples, and plays on as long as there are some."""

    def __init__(self, sample_rate: int) -> None:
        """Begin to wait."""
        self._sample_rate = sample_rate
        self._asked = time.perf_counter()
        self._runs_out: float | None = None  # when all that there was has been heard

    def hear(self, samples: int) -> None:
        """Take so many samples more, now."""
        if samples:
            now = time.perf_counter()
            self._runs_out = max(now, self._runs_out or now) + samples / self._sample_rate

    @property
    def due(self) -> float:
        """When the next samples should be on their way, as `time.perf_counter` counts.

        Whose audio is about to run out comes before who hears nothing yet.
        """
        if self._runs_out is None:
            return self._asked + FIRST_DUE
        return self._runs_out - AHEAD
