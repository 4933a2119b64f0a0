"""A discrete-event simulation of an endpoint: a queue, workers that share a batch, a scaler.

Within a worker all rows of its jobs go on at the same pace, which depends on how many there are
(processor sharing). So each worker has a clock of tokens done by any one row; a job is through
when that clock has passed its start by the tokens of one of its rows.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from scripts.scaling.inputs import Job, Platform, Worker


@dataclass
class Result:
    """What came of a run; times in seconds, one entry a job where it is a list."""

    waits: list[float] = field(default_factory=list)  # until a worker took it
    latencies: list[float] = field(default_factory=list)  # until it was answered
    billed_seconds: float = 0.0
    busy_seconds: float = 0.0
    starts: int = 0
    most_workers: int = 0

    def latency(self, share: float) -> float:
        """The latency that this share of the jobs does not exceed."""
        return percentile(self.latencies, share)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class _Running:
    arrived: float
    job: Job


class _Machine:
    """One worker: its clock of tokens by row, and the jobs in its batch."""

    def __init__(self, kind: Worker, now: float) -> None:
        self.kind = kind
        self.started = now
        self.ready = False
        self.rows = 0
        self.held = 0  # slots taken, by jobs in the batch and in their fixed part
        self.version = 0  # of the next event in the batch: older ones no longer count
        self.idle_since = now
        self.busy_seconds = 0.0
        self.asks_from = now  # it takes no job before
        self._fresh = 0  # jobs taken at this very moment
        self._done = 0.0  # tokens by each row so far
        self._at = now
        self._batch: list[tuple[float, int, _Running]] = []

    def advance(self, now: float) -> None:
        """Let the batch run until now."""
        if self.rows:
            pace = self.kind.tokens_per_second(self.rows) / self.rows
            self._done += pace * (now - self._at)
        if self.held:
            self.busy_seconds += now - self._at
        if now > self._at:
            self._fresh = 0
        self._at = now

    def take(self, running: _Running, number: int) -> None:
        """Put a job into the batch."""
        through = self._done + running.job.tokens / running.job.rows
        heapq.heappush(self._batch, (through, number, running))
        self.rows += running.job.rows
        self.held += 1
        self._fresh += 1

    @property
    def looks_full(self) -> bool:
        """To the SDK, which counts what it has just taken twice."""
        return self.held + self._fresh >= self.kind.slots

    def next_through(self) -> float | None:
        """Seconds from now until the first job of the batch is through."""
        if not self._batch:
            return None
        pace = self.kind.tokens_per_second(self.rows) / self.rows
        return max(0.0, (self._batch[0][0] - self._done) / pace)

    def finish(self) -> _Running:
        """Take the first job out of the batch; its slot stays taken."""
        self._done = max(self._done, self._batch[0][0])
        _, _, running = heapq.heappop(self._batch)
        self.rows -= running.job.rows
        return running


class _Endpoint:
    """The queue, its workers and the scaler; events in the order of their times."""

    def __init__(self, kind: Worker, platform: Platform, chance: random.Random) -> None:
        self.kind = kind
        self.platform = platform
        self.result = Result()
        self.on_answer: Callable[[float], None] = lambda _now: None
        self._chance = chance
        self._queue: deque[_Running] = deque()
        self._machines: list[_Machine] = []
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        for _ in range(platform.least):
            self._start(0.0, cold=False)

    def at(self, time: float, what: Callable[[float], None]) -> None:
        """Have it done then."""
        heapq.heappush(self._events, (time, next(self._numbers), what))

    def run(self) -> float:
        """Do everything that is due; the time of the last event."""
        now = 0.0
        while self._events:
            now, _, what = heapq.heappop(self._events)
            what(now)
        return now

    def arrive(self, now: float, job: Job) -> None:
        """A job comes into the queue."""
        self._queue.append(_Running(now, job))
        self._hand_out(now)
        self._scale(now)
        if self.platform.queue_delay is not None and self._queue:
            self.at(now + self.platform.queue_delay, self._scale)

    def close(self, now: float) -> None:
        """Stop the clock of the workers that still run."""
        for machine in self._machines:
            self._bill(machine, now)

    def _hand_out(self, now: float) -> None:
        """Workers with a free slot take jobs, the emptiest one first."""
        while self._queue:
            free = [
                m
                for m in self._machines
                if m.ready and m.held < self.kind.slots and m.asks_from <= now
            ]
            if not free:
                return
            machine = min(free, key=lambda m: m.held)
            running = self._queue.popleft()
            self.result.waits.append(now - running.arrived)
            machine.advance(now)
            machine.take(running, next(self._numbers))
            self._plan(machine, now)
            if self.kind.pause_seconds and machine.looks_full:
                self._pause(machine, now)

    def _pause(self, machine: _Machine, now: float) -> None:
        """Let it ask for no job for a while, and again while all its slots are taken."""
        machine.asks_from = now + self.kind.pause_seconds
        self.at(machine.asks_from, lambda time: self._resume(machine, time))

    def _resume(self, machine: _Machine, now: float) -> None:
        if machine.held >= self.kind.slots:
            self._pause(machine, now)
        elif machine.asks_from <= now:
            self._hand_out(now)

    def _plan(self, machine: _Machine, now: float) -> None:
        machine.version += 1
        version = machine.version
        through = machine.next_through()
        if through is not None:
            self.at(now + through, lambda time: self._through(machine, version, time))

    def _through(self, machine: _Machine, version: int, now: float) -> None:
        if version != machine.version:
            return
        machine.advance(now)
        running = machine.finish()
        self._plan(machine, now)
        if self.kind.fixed_seconds:
            self.at(now + self.kind.fixed_seconds, lambda t: self._answered(machine, running, t))
        else:
            self._answered(machine, running, now)

    def _answered(self, machine: _Machine, running: _Running, now: float) -> None:
        machine.advance(now)
        machine.held -= 1
        self.result.latencies.append(now - running.arrived)
        self.on_answer(now)
        self._hand_out(now)
        if not machine.held:
            self._rests(machine, now)

    def _rests(self, machine: _Machine, now: float) -> None:
        machine.idle_since = now
        self.at(now + self.platform.idle_seconds, lambda time: self._stop(machine, now, time))

    def _stop(self, machine: _Machine, since: float, now: float) -> None:
        still = machine in self._machines and not machine.held and machine.idle_since == since
        if still and len(self._machines) > self.platform.least:
            self._machines.remove(machine)
            self._bill(machine, now)

    def _bill(self, machine: _Machine, now: float) -> None:
        machine.advance(now)
        self.result.billed_seconds += math.ceil(now - machine.started)
        self.result.busy_seconds += machine.busy_seconds

    def _scale(self, now: float) -> None:
        """Add the workers that the endpoint's rule asks for."""
        rules = self.platform
        wanted = 0
        if rules.per_worker is not None:
            jobs = len(self._queue) + sum(machine.held for machine in self._machines)
            wanted = math.ceil(jobs / rules.per_worker) - len(self._machines)
        if rules.queue_delay is not None and self._queue:
            # What starts already will take some of them.
            coming = sum(not machine.ready for machine in self._machines) * self.kind.slots
            late = sum(now - running.arrived >= rules.queue_delay - 1e-9 for running in self._queue)
            wanted = max(wanted, math.ceil((late - coming) / self.kind.slots))
        if self._queue and not self._machines:
            wanted = max(wanted, 1)
        for _ in range(min(wanted, rules.most - len(self._machines))):
            self._start(now)

    def _start(self, now: float, *, cold: bool = True) -> None:
        machine = _Machine(self.kind, now)
        self._machines.append(machine)
        self.result.most_workers = max(self.result.most_workers, len(self._machines))
        if not cold:
            machine.ready = True
            return
        self.result.starts += 1
        warm = self._chance.random() < self.platform.warm_share
        seconds = self.platform.warm_seconds if warm else self.kind.start_seconds
        self.at(now + seconds, lambda time: self._is_ready(machine, time))

    def _is_ready(self, machine: _Machine, now: float) -> None:
        machine.advance(now)
        machine.ready = True
        self._hand_out(now)
        if not machine.held:
            self._rests(machine, now)


def simulate(
    arrivals: Iterable[tuple[float, Job]], kind: Worker, platform: Platform, seed: int = 0
) -> Result:
    """Answer all jobs, each of which arrives at its second."""
    endpoint = _Endpoint(kind, platform, random.Random(seed))  # noqa: S311
    last = 0.0
    for time, job in arrivals:
        endpoint.at(time, lambda now, job=job: endpoint.arrive(now, job))
        last = time
    endpoint.close(max(endpoint.run(), last))
    return endpoint.result


def simulate_clients(clients: int, jobs: int, job: Job, kind: Worker, platform: Platform) -> Result:
    """Answer `jobs` like ones; each of the clients asks anew when it has its answer."""
    endpoint = _Endpoint(kind, platform, random.Random(0))  # noqa: S311
    left = iter(range(jobs - clients))

    def ask_anew(now: float) -> None:
        if next(left, None) is not None:
            endpoint.at(now, lambda time: endpoint.arrive(time, job))

    endpoint.on_answer = ask_anew
    for _ in range(clients):
        endpoint.at(0.0, lambda now: endpoint.arrive(now, job))
    endpoint.close(endpoint.run())
    return endpoint.result


def poisson(
    per_second: float, seconds: float, draw: Callable[[random.Random], Job], seed: int = 0
) -> list[tuple[float, Job]]:
    """Jobs that arrive independently of each other."""
    chance = random.Random(seed)  # noqa: S311
    found = []
    now = chance.expovariate(per_second)
    while now < seconds:
        found.append((now, draw(chance)))
        now += chance.expovariate(per_second)
    return found
