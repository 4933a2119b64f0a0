"""Notices when the volume does not answer during a start, and for how long it did not.

A start waits for the volume in many places, most of them in C: a page of a library, a weight that
is mapped. None of them can tell that it waits. So a thread asks the volume something small, again
and again, and another one looks at how long it has waited for the answer. Whoever waits for a page
may hold Python's lock meanwhile, so that no thread can ask: then the question itself comes late.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

# Whether it has answered, and for how many seconds it had not.
Tell = Callable[[bool, float], None]

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
        self._lock = threading.Lock()
        self._untold: list[tuple[bool, float]] = []
        self._listener: Tell | None = None

    def start(self) -> None:
        """Begin, in threads that keep no process from ending."""
        for work in (self._go_on_asking, self._look):
            threading.Thread(target=work, name="volume-watch", daemon=True).start()

    def listen(self, listener: Tell) -> None:
        """Have `listener` called with whatever is noticed, and was until now; from any thread."""
        with self._lock:
            self._listener = listener
            for noticed in self._untold:
                listener(*noticed)

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
                self._tell(True, late)
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
                self._tell(False, waited)
                told = asked

    def _tell(self, answered: bool, seconds: float) -> None:
        with self._lock:
            if self._listener is None:
                self._untold.append((answered, seconds))
            else:
                self._listener(answered, seconds)
