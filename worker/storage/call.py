"""One call of a storage: its deadline, and whether its job still waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

from worker.cancellation import Cancellation
from worker.errors import StorageError

T = TypeVar("T")

_LOOK_SECONDS = 0.1  # how late a cancellation may be heard


class Call:
    """A deadline and a job's cancellation, looked at between attempts and chunks."""

    def __init__(self, what: str, seconds: float, cancellation: Cancellation | None = None) -> None:
        self.what = what  # "KEY could not be stored"
        self._seconds = seconds
        self._begun = monotonic()
        self._cancellation = cancellation
        self._given_up = Event()

    def allow(self, seconds: float) -> None:
        """Put the deadline off, once it is known how many bytes there are to carry."""
        self._seconds += seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._seconds - (monotonic() - self._begun)

    def check(self) -> None:
        """Raise JobCancelledError or, past the deadline, StorageError."""
        if self._cancellation is not None:
            self._cancellation.check()
        if self._given_up.is_set() or self.left <= 0:
            raise StorageError(
                f"{self.what}: the storage took longer than {self._seconds:.3g} s; try again "
                "later, and check AWS_ENDPOINT_URL and the network"
            )

    def pause(self, seconds: float) -> bool:
        """Wait; False at once where that would outlast the call."""
        if seconds >= self.left:
            return False
        self._given_up.wait(seconds)
        self.check()
        return True

    def run(self, work: Callable[[], T]) -> T:
        """Do `work`, and come back without it at the deadline or when the job is cancelled.

        Nothing interrupts a thread that waits for the network. So the work has a thread of its
        own, which is left to itself then: it ends at its next `check`, at the latest when the
        service has been silent for one attempt.
        """
        done: Future[T] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        Thread(target=do, name="storage", daemon=True).start()
        try:
            while not wait([done], max(0.0, min(_LOOK_SECONDS, self.left))).done:
                self.check()
        except BaseException:
            self._given_up.set()
            raise
        return done.result()
