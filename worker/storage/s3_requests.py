"""Requests to a bucket: retried where that may help, those of one call within one deadline."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from worker.cancellation import Cancellation
from worker.storage.call import Call
from worker.storage.s3_check import Answer
from worker.storage.s3_client import S3Limits
from worker.storage.s3_errors import Place, is_transient, storage_error

T = TypeVar("T")


class BusyError(Exception):
    """A plain client was told to try again later."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Requests:
    """Sends the requests of calls as often as the limits say; its errors are in words."""

    def __init__(self, limits: S3Limits, place: Place) -> None:
        self._limits = limits
        self._place = place

    def ask(
        self, what: str, attempt: Callable[[], T], cancellation: Cancellation | None = None
    ) -> T:
        """Make a call of one request: see `within` and `tried`."""
        return self.within(what, lambda call: self.tried(call, attempt), cancellation)

    def within(
        self, what: str, work: Callable[[Call], T], cancellation: Cancellation | None = None
    ) -> T:
        """Do `work` within the deadline of a call, which it may put off. Raises StorageError.

        `what` says what could not be done where it fails.
        """
        call = Call(what, self._limits.call_seconds, cancellation)
        try:
            return call.run(lambda: work(call))
        except Exception as error:
            raise self.in_words(what, error) from None

    def tried(self, call: Call, attempt: Callable[[], T]) -> T:
        """Send a request as often as the limits say and the call allows, with growing pauses."""
        for number in range(1, self._limits.attempts + 1):
            call.check()
            try:
                return attempt()
            except Exception as error:
                if number == self._limits.attempts or not (
                    is_transient(error) or isinstance(error, BusyError)
                ):
                    raise
                longest = self._limits.pause_seconds * 2 ** (number - 1)
                if not call.pause(random.random() * longest):  # noqa: S311 - no secret
                    raise
        raise AssertionError("no attempt is allowed")

    def in_words(self, what: str, error: Exception) -> Exception:
        """The StorageError for an error; the error itself where it is none of the storage."""
        return storage_error(what, error, self._place) or error
