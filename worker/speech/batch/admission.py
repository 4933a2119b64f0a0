"""Which waiting sequences join the batch: a queue for each job, and slots shared among jobs.

    due       what somebody who listens needs soon comes first, by the time at which it is needed;
              while there are listeners, the last quarter of the slots is kept for it
    share     a free slot goes to the job that has the fewest sequences running, so that a long
              text cannot keep a short one waiting; jobs with as many take it by turns
    budget    only so many tokens of prompts are read between two steps, for all that run wait
              meanwhile; but one prompt always is, or a part of it where parts may be read
    again     what lost its slot goes before all that have not had one
    patience  a job of which nothing runs is due at some time, whoever listens

Plain Python: what waits has a job and a prompt, and may have been given up.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from worker.speech.listener import NEVER


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

    @property
    def due(self) -> float:
        """When somebody who listens needs it, by `time.perf_counter`; infinity: nobody does."""

    @property
    def submitted(self) -> float:
        """Since when it waits."""


T = TypeVar("T", bound=Waiting)
SOON = 1.0  # seconds: what is needed within them comes first
PATIENCE = 5.0  # seconds that a job waits for those who listen before it has a slot of its own
LISTENED = 30.0  # seconds that slots are kept for more who listen


@dataclass(frozen=True)
class PrefillBudget:
    """How many tokens of prompts are read between two steps."""

    tokens: int
    padded: bool = False  # each prompt is computed as long as the longest of them
    # Where the last prompt may be read in parts, over several steps: how many tokens are read at
    # once while nothing runs that would have to wait.
    idle: int | None = None

    @property
    def in_parts(self) -> bool:
        """Whether a prompt may be read in parts."""
        return self.idle is not None

    def allows(self, lengths: Sequence[int], *, idle: bool = False) -> bool:
        """Whether prompts of these lengths are begun together; one alone always is."""
        if len(lengths) == 1:
            return True
        if self.idle is not None:
            return sum(lengths[:-1]) < self._most(idle=idle)
        total = len(lengths) * max(lengths) if self.padded else sum(lengths)
        return total <= self.tokens

    def split(self, lengths: Sequence[int], *, idle: bool = False) -> list[int]:
        """How many tokens are read now of each prompt, the first of them first: none is 0."""
        if self.idle is None:
            return list(lengths)
        left, parts = self._most(idle=idle), []
        for length in lengths:
            if left <= 0:
                break
            parts.append(min(length, left))
            left -= parts[-1]
        return parts

    def _most(self, *, idle: bool) -> int:
        return self.idle if idle and self.idle is not None else self.tokens


CPU_BUDGET = PrefillBudget(1024)
# On a GPU a prompt of one token costs what a prompt of a thousand does.
GPU_BUDGET = PrefillBudget(8192, padded=True)
# As many tokens of a prompt as a full batch has rows cost the others one step more.
CHUNKS = PrefillBudget(64, idle=1024)


def budget_for(*, on_gpu: bool, in_parts: bool) -> PrefillBudget:
    """The budget for a decoder that is on a GPU or not, and reads prompts in parts or whole."""
    if not on_gpu:
        return CPU_BUDGET
    return CHUNKS if in_parts else GPU_BUDGET


class AdmissionQueue(Generic[T]):
    """The sequences that wait for a slot. One thread at a time may use it."""

    def __init__(self, budget: PrefillBudget) -> None:
        self._budget = budget
        self._queues: dict[Hashable, deque[T]] = {}  # by job, none empty; the next in turn first
        self._listened = -NEVER  # when somebody who listens last waited for something

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

    def admit(
        self,
        free: int,
        running: Sequence[Hashable],
        begun: Sequence[int] = (),
    ) -> list[T]:
        """Take out those that join now: at most `free`, beside sequences of these jobs.

        `begun` are the tokens left of prompts that are being read already, which are among the
        running ones.
        """
        share, kept = Counter(running), self._kept(free + len(running))
        idle = len(running) == len(begun)
        lengths = list(begun)
        joining: list[T] = []
        while self._queues and len(joining) < free:
            job, urgent = self._next(share)
            if not urgent and free - len(joining) <= kept:
                break
            queue = self._queues.pop(job)
            sequence = queue.popleft()
            if not sequence.done:
                lengths.append(sequence.prompt_length)
                if not self._budget.allows(lengths, idle=idle):
                    queue.appendleft(sequence)
                    self._queues = {job: queue, **self._queues}  # the next, when there is room
                    break
                joining.append(sequence)
                share[job] += 1
            if queue:
                self._queues[job] = queue  # behind the other jobs
        return joining

    def _next(self, share: Counter[Hashable]) -> tuple[Hashable, bool]:
        """The job whose turn it is, and whether somebody needs it soon."""
        soon = time.perf_counter() + SOON

        def due(job: Hashable) -> float:
            first = self._queues[job][0]
            when = first.due if share[job] else min(first.due, first.submitted + PATIENCE)
            return when if when < soon else NEVER

        job = min(self._queues, key=lambda job: (due(job), share[job]))
        return job, due(job) < NEVER

    def _kept(self, slots: int) -> int:
        """How many slots are kept for who listens."""
        now = time.perf_counter()
        if any(queue[0].due < NEVER for queue in self._queues.values()):
            self._listened = now
        return slots // 4 if now - self._listened < LISTENED else 0

    def clear(self) -> list[T]:
        """Take out all."""
        left = [sequence for queue in self._queues.values() for sequence in queue]
        self._queues.clear()
        return left
