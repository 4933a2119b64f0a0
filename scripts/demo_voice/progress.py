"""How far a long computation is, and when it will be done, on one line."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts steps; prints at most every few seconds."""

    def __init__(self, name: str, total: float, done: float = 0.0, every: float = 15.0) -> None:
        self.name, self.total, self.done = name, total, done
        self._first, self._start = done, time.monotonic()
        self._every, self._last = every, 0.0

    def step(self, amount: float = 1.0, note: str = "") -> None:
        """One step further."""
        self.done += amount
        now = time.monotonic()
        if now - self._last < self._every and self.done < self.total:
            return
        self._last = now
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        share = f"{100 * self.done / self.total:5.1f} %"
        print(f"{self.name} {share}, {left / 60:.1f} min left {note}", file=sys.stderr, flush=True)
