"""Runs work that shares a device's memory, and once more alone where that did not suffice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from worker.logs import event
from worker.speech.device import empty_cache
from worker.speech.device_errors import Failure, failed_alone, failure_of, short_of_memory

T = TypeVar("T")


class MemoryRetry:
    """Does work of many threads side by side: `memory.do(work, what)`.

    Work that ran out of memory is done once more, alone: when the others have left, and before
    more come in. So it must be such that it may be done again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = 0  # that are alone, or wait for it

    def do(self, work: Callable[[], T], what: str) -> T:
        """Do the work and give its result.

        Raises MemoryShortError, naming `what`, when it is short of memory alone too, and
        DeviceError where that cannot have been the reason.
        """
        failure: Failure | None = None
        for company in (self._beside_others(), self._alone_on_it()):
            with company:
                try:
                    return work()
                except (RuntimeError, MemoryError) as error:
                    if not short_of_memory(error):
                        raise
                    failure = failure_of(error)
                    event(logging.WARNING, "out of memory", what=what, error=str(error))
            # Only here, past the handler, has the traceback let go of what was too much.
            empty_cache()
        raise failed_alone(
            failure,
            f"not enough memory for {what}, even alone; send the job again, or use a "
            "shorter reference and shorter sentences",
        )

    @contextmanager
    def _beside_others(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def _alone_on_it(self) -> Iterator[None]:
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._inside)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._alone -= 1
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
