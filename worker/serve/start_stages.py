"""The stages of a worker's start: what each took, for the log and for the first job's metrics.

All times are seconds from the start of the process, which `volume run` shares with the worker.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from volume.start_clock import INSTALLER_RAN, now, process_started
from worker.logs import event

# What is counted from the start of the process: the worker takes jobs, has its first, answers it.
READY, ACCEPTED, ANSWERED = "ready", "accepted", "answered"


@dataclass(frozen=True)
class Span:
    """One stage: when it began, and how long it took."""

    began: float
    seconds: float


class StartStages:
    """The stages of this start: `with stages("model"): ...`. For any thread.

    Stages run at the same time, so they add up to more than the whole.
    """

    def __init__(
        self,
        first_line: float | None = None,
        *,
        variables: Mapping[str, str] = os.environ,
        process: Callable[[], float | None] = process_started,
    ) -> None:
        """`first_line` is when the worker's first line ran, seconds since boot; None for now."""
        first_line = now() if first_line is None else first_line
        process_start = process()
        if process_start is None or process_start > first_line:  # of another clock
            process_start = first_line
        self._zero = process_start
        self._first_line = first_line - self._zero
        self._spans: dict[str, Span] = {}
        self._marks: dict[str, float] = {}
        self._lock = Lock()
        self._begin(_read(variables.get(INSTALLER_RAN, "")))

    def _begin(self, installer: tuple[float, float] | None) -> None:
        """Note what was before the worker's first line."""
        began, ended = (moment - self._zero for moment in installer or (self._zero, self._zero))
        if not 0 <= began <= ended <= self._first_line:  # of another process
            began = ended = 0.0
        self._add("interpreter", 0.0, began + self._first_line - ended)
        if ended > began:
            self._add("environment", began, ended - began)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to the stage's; it begins with the first of them."""
        began = self._now
        try:
            yield
        finally:
            self._add(stage, began, self._now - began)

    def since_first_line(self, stage: str) -> None:
        """End the stage that began with the worker's first line."""
        self._add(stage, self._first_line, self._now - self._first_line)

    @property
    def spans(self) -> dict[str, Span]:
        """The stages so far, in the order in which they ended."""
        with self._lock:
            return dict(self._spans)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage; of READY, ACCEPTED and ANSWERED from the start of the process."""
        with self._lock:
            return {name: span.seconds for name, span in self._spans.items()} | self._marks

    def ready(self) -> None:
        """Log the start, since the worker takes jobs from now on; again it does nothing."""
        if not self._mark(READY):
            return
        spans = self.spans
        event(
            logging.INFO,
            "worker started",
            seconds=self._marks[READY],
            stages={name: span.seconds for name, span in spans.items()},
            began={name: span.began for name, span in spans.items()},
        )

    def accept(self) -> Callable[[], dict[str, float]] | None:
        """Note that a job has come. For the first: what gives the start's seconds at its answer."""
        return self._answer if self._mark(ACCEPTED) else None

    def _answer(self) -> dict[str, float]:
        self._mark(ANSWERED)
        return self.seconds

    @property
    def _now(self) -> float:
        return now() - self._zero

    def _mark(self, name: str) -> bool:
        """Note that it is reached; whether it is for the first time."""
        with self._lock:
            return self._marks.setdefault(name, moment := self._now) is moment

    def _add(self, stage: str, began: float, seconds: float) -> None:
        with self._lock:
            if earlier := self._spans.get(stage):
                began, seconds = earlier.began, earlier.seconds + seconds
            self._spans[stage] = Span(began, seconds)


def _read(text: str) -> tuple[float, float] | None:
    """The installer's two moments, or None."""
    try:
        began, ended = map(float, text.split())
    except ValueError:
        return None
    return began, ended
