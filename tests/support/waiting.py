"""The one wait of the tests: until something holds, and never without end."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.001  # seconds between two looks


def until(
    true: Callable[[], object],
    seconds: float = 10,
    *,
    pause: float = PAUSE,
    said: Callable[[], object] = lambda: "",
) -> None:
    """Return when it holds; raise AssertionError, with what `said` gives, where it never does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {said()}"
        time.sleep(pause)
