"""Says in the log when the volume does not answer during a start, and for how long it did not.

A start waits for the volume in many places, most of them in C: a page of a library, a weight that
is mapped. None of them can tell that it waits. So a thread asks the volume something small, again
and again, and another one looks at how long it has waited for the answer. Whoever waits for a page
may hold Python's lock meanwhile, so that no thread can ask: then the question itself comes late.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from worker.logs import event

PATIENCE = 3.0  # seconds; a busy volume or a long import is no fault
PAUSE = 0.5  # seconds between an answer and the next question


class VolumeWatch:
    """Asks `volume` until it is ended, for the free space: no client of a volume caches that."""

    def __init__(
        self,
        volume: Path,
        ask: Callable[[Path], object] = os.statvfs,
        patience: float = PATIENCE,
        pause: float = PAUSE,
    ) -> None:
        self._volume = volume
        self._ask = ask
        self._patience, self._pause = patience, pause
        self._ended = threading.Event()
        self._asked: float | None = None  # when; None: it has answered

    def start(self) -> None:
        """Begin, in threads that keep no process from ending."""
        for work in (self._go_on_asking, self._look):
            threading.Thread(target=work, name="volume-watch", daemon=True).start()

    def end(self) -> None:
        """Ask no more; a question that is under way is still told of."""
        self._ended.set()

    def _go_on_asking(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self._asked = time.monotonic()
            try:
                self._ask(self._volume)
            except OSError:  # it is not there, which the start itself will say
                self.end()
                return
            finally:
                self._asked = None
            late = time.monotonic() - due
            if late >= self._patience:
                event(logging.WARNING, "volume answered late", seconds=round(late, 1))
            due = time.monotonic() + self._pause
            self._ended.wait(self._pause)

    def _look(self) -> None:
        told = None
        while not self._ended.wait(self._pause):
            asked = self._asked
            if asked is None or asked == told:
                continue
            waited = time.monotonic() - asked
            if waited >= self._patience:
                event(logging.WARNING, "volume does not answer", seconds=round(waited, 1))
                told = asked
