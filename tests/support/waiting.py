"""The waits of the tests: until something holds, and never without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PAUSE = 0.001  # seconds between two looks


def until(
    true: Callable[[], object],
    seconds: float = 20,
    *,
    pause: float = PAUSE,
    said: Callable[[], object] = lambda: "",
) -> None:
    """Return when it holds; raise AssertionError, with what `said` gives, where it never does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {said()}"
        time.sleep(pause)


async def until_async(true: Callable[[], object], seconds: float = 20) -> None:
    """Return when it holds, the event loop going on; raise TimeoutError where it never does."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(PAUSE)
