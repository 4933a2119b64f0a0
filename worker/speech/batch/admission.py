"""Which waiting sequences join the batch: a queue for each job, and slots shared among jobs.

    share     a free slot goes to the job that has the fewest sequences running, so that a long
              text cannot keep a short one waiting; jobs with as many take it by turns
    budget    only so many tokens of prompts are read between two steps, for all that run wait
              meanwhile; but one prompt always is
    again     what lost its slot goes before all that have not had one

Plain Python: what waits has a job and a prompt, and may have been given up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What can wait for a slot."""

    @property
    def job(self) -> Hashable:
        """The job that it belongs to."""

    @property
    def prompt_length(self) -> int:
        """Tokens that are read when it joins."""

    @property
    def done(self) -> bool:
        """Whether it was given up, and needs no slot."""


T = TypeVar("T", bound=Waiting)


@dataclass(frozen=True)
class PrefillBudget:
    """How many tokens of prompts are read between two steps."""

    tokens: int
    padded: bool = False  # each prompt is computed as long as the longest of them

    def allows(self, lengths: Sequence[int]) -> bool:
        """Whether prompts of these lengths are read together; one alone always is."""
        total = len(lengths) * max(lengths) if self.padded else sum(lengths)
        return len(lengths) == 1 or total <= self.tokens


CPU_BUDGET = PrefillBudget(1024)
# On a GPU a prompt of one token costs what a prompt of a thousand does.
GPU_BUDGET = PrefillBudget(8192, padded=True)


class AdmissionQueue(Generic[T]):
    """The sequences that wait for a slot. One thread at a time may use it."""

    def __init__(self, budget: PrefillBudget) -> None:
        self._budget = budget
        self._queues: dict[Hashable, deque[T]] = {}  # by job, none empty; the next in turn first

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        """How many wait; those that were given up do not."""
        return sum(not one.done for queue in self._queues.values() for one in queue)

    def add(self, job: Hashable, sequences: Iterable[T]) -> None:
        """Let sequences of a job wait, behind its others."""
        queue = self._queues.setdefault(job, deque())
        queue.extend(sequences)
        if not queue:
            del self._queues[job]

    def put_back(self, sequences: Sequence[T]) -> None:
        """Let sequences that lost their slot wait in this order, before all others."""
        for sequence in reversed(sequences):
            queue = self._queues.pop(sequence.job, deque())
            queue.appendleft(sequence)
            self._queues = {sequence.job: queue, **self._queues}

    def admit(self, free: int, running: Iterable[Hashable]) -> list[T]:
        """Take out those that join now: at most `free`, beside running sequences of these jobs."""
        share = Counter(running)
        joining: list[T] = []
        while self._queues and len(joining) < free:
            job = min(self._queues, key=lambda job: share[job])
            queue = self._queues.pop(job)
            sequence = queue.popleft()
            if not sequence.done:
                lengths = [one.prompt_length for one in (*joining, sequence)]
                if not self._budget.allows(lengths):
                    queue.appendleft(sequence)
                    self._queues = {job: queue, **self._queues}  # the next, when there is room
                    break
                joining.append(sequence)
                share[job] += 1
            if queue:
                self._queues[job] = queue  # behind the other jobs
        return joining

    def clear(self) -> list[T]:
        """Take out all."""
        left = [sequence for queue in self._queues.values() for sequence in queue]
        self._queues.clear()
        return left
