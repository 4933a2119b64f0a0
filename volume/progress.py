"""Progress of a long step: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

BAR = 30


def gigabytes(count: int) -> str:
    """Write a number of bytes for people, in decimal units as disks are sold."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


@dataclass
class Progress:
    """One step of `total` bytes; `show` may be called as often as one likes."""

    label: str
    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    every: float = 5.0
    _started: float = field(default_factory=time.monotonic)
    _shown: float = field(default_factory=time.monotonic)

    def show(self, done: int) -> None:
        """Say that `done` bytes of this step are done."""
        terminal = self.stream.isatty()
        now = time.monotonic()
        if now - self._shown < (0.1 if terminal else self.every):
            return
        self._shown = now
        share = min(done / self.total, 1.0) if self.total else 0.0
        rate = gigabytes(int(done / max(now - self._started, 1e-6)))
        text = f"{gigabytes(done)} of {gigabytes(self.total)}, {rate}/s"
        if terminal:
            bar = "#" * round(share * BAR)
            self.stream.write(f"\r{self.label} [{bar:<{BAR}}] {share:4.0%} {text}\033[K")
        else:
            self.stream.write(f"{self.label}: {share:.0%}, {text}\n")
        self.stream.flush()

    def end(self) -> float:
        """Close the step with a line that holds its seconds, and return them."""
        seconds = time.monotonic() - self._started
        start = "\r" if self.stream.isatty() else ""
        end = "\033[K\n" if self.stream.isatty() else "\n"
        self.stream.write(f"{start}{self.label}: done in {seconds:.1f} s{end}")
        self.stream.flush()
        return seconds
