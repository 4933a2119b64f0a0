"""Runs a few things beside each other, in threads whose lines in the log are those of the job."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def beside(calls: Sequence[Callable[[], T]], at_once: int, name: str) -> list[T]:
    """What each call gives, in their order; at most `at_once` run at a time.

    Raises what the first of them that fails has raised; those that have not begun are given up. One
    alone runs in this thread.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    threads = ThreadPoolExecutor(min(at_once, len(calls)), name)
    try:
        running = [threads.submit(contextvars.copy_context().run, call) for call in calls]
        return [one.result() for one in running]
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
