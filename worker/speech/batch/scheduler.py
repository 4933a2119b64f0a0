"""Continuous batching: many sequences through one language model, joining and leaving at any step.

Each row has its own prompt, plan, sampling and end; what shares the batch with it decides nothing
about it but the time it takes. Rows wait in a queue for each job; a free place goes to the job
that has the fewest running, so that a long text cannot keep a short one waiting. A cancelled row
leaves at the next step.

A thread runs while there is something to do, and ends when there is not. On a GPU the tokens of a
step are read while the next one is already computed: a row that ends is noticed one step later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from worker.cancellation import Cancellation
from worker.errors import BusyError, JobCancelledError, SynthesisError
from worker.logs import log
from worker.speech.batch.device_batch import NOTHING, DeviceBatch
from worker.speech.batch.output_head import GrammarRoute, OutputHeads
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import Answer, Drawn, SequenceRequest, TokenSequence
from worker.speech.device import (
    FIRST,
    alone_and_failed,
    empty_cache,
    on,
    on_device,
    stream_on,
)
from worker.speech.device_errors import Failure, device_failure, failure_of, short_of_memory
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import Grammar
from worker.speech.lm.interface import Decoder

LINGER = 0.25  # seconds that the thread waits for more before it ends
# Prompt tokens that join between two steps, but always one row. On a GPU a prompt of one costs what
# a prompt of a thousand does, and shorter ones are padded to the longest.
PREFILL = 1024
PREFILL_PADDED = 8192


class Scheduler:
    """Runs rows through one decoder; the only one that touches its cache.

    At most `slots` rows run at once, at most `positions` tokens long, prompt included, and
    `max_waiting` wait. Where the device's memory does not suffice, the slots are halved. With
    `turns`, each step waits for its turn at the device.
    """

    def __init__(
        self,
        lm: Decoder,
        slots: int = 16,
        positions: int | None = None,
        max_waiting: int = 4096,
        turns: FairLock | None = None,
    ) -> None:
        self._lm = lm
        self.slots = slots
        self.positions = min(positions or 1 << 30, lm.config.max_position_embeddings)
        self._max_waiting = max_waiting
        self._device_turn: AbstractContextManager[object] = turns or nullcontext()
        self._stream = stream_on(lm.device, FIRST)
        self._routes = OutputHeads(lm)
        self._main: GrammarRoute | None = None  # whose steps are captured
        with on(self._stream):
            self._state: DeviceBatch | None = DeviceBatch(lm, slots, self.positions)
        self._batch: list[TokenSequence] = []  # by place
        self._turns = 0
        self._unread: deque[Drawn] = deque()
        self._on_gpu = lm.device.type == "cuda"
        self._lag = 1 if self._on_gpu else 0
        self._waiting: dict[Hashable, deque[TokenSequence]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(
        self,
        rows: Sequence[SequenceRequest],
        plan: Grammar,
        sampling: Sampling,
        *,
        job: Hashable = None,
        cancellation: Cancellation | None = None,
    ) -> list[TokenSequence]:
        """Queue rows together; their answers come through the Answerings, in the same order.

        Raises SynthesisError when a prompt leaves no room, BusyError when too much waits.
        """
        for row in rows:
            if len(row.prompt) + row.limit > self.positions:
                raise SynthesisError(
                    f"a prompt of {len(row.prompt)} tokens and an answer of {row.limit} need more "
                    f"than the {self.positions} positions that a row has"
                )
        if not rows:
            return []
        with self._changed:
            route = self._routes.find(plan)
            asked = [TokenSequence(row, route, sampling, job) for row in rows]
            if self._queued + len(rows) > self._max_waiting:
                raise BusyError(
                    f"{self._max_waiting} sentences wait already; try again in a moment"
                )
            self._waiting.setdefault(job, deque()).extend(asked)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if cancellation is not None:
            for one in asked:
                cancellation.call(partial(self.cancel, one))
        return asked

    def prepare(self, plan: Grammar) -> None:
        """Make what rows of this plan will need, so that the first one does not wait for it.

        To be called before the first row is. Where memory is short, fewer rows run at once.
        """
        route = self._routes.find(plan)
        with torch.inference_mode(), on(self._stream):
            for cut in dict.fromkeys(route.cuts):
                self._routes.keep(cut, route.end)
            while True:
                try:
                    self._rows.capture(self._routes.head(route.cuts[-1], route.end))
                except (RuntimeError, MemoryError) as error:
                    if not short_of_memory(error) or self.slots == 1:
                        raise
                    log.warning("out of memory for the steps of %d rows: %s", self.slots, error)
                else:
                    break
                self._halve()
        self._main = route

    def cancel(self, asked: TokenSequence) -> None:
        """Give the row up: it waits no longer, and leaves the batch before the next step."""
        asked.finish(JobCancelledError("the job was cancelled"))

    def occupancy(self) -> tuple[int, int]:
        """Rows that run, and rows that wait."""
        with self._changed:
            return len(self._batch), self._queued

    @property
    def _rows(self) -> DeviceBatch:
        """The batch on the device: after a shrink, made anew by the first row that joins."""
        if self._state is None:
            self._state = DeviceBatch(self._lm, self.slots, self.positions)
            if self._main is not None:
                self._state.capture(self._routes.head(self._main.cuts[-1], self._main.end))
        return self._state

    @property
    def _queued(self) -> int:
        """Rows that wait; those that were given up do not."""
        return sum(not asked.done for queue in self._waiting.values() for asked in queue)

    # The thread

    def _serve(self) -> None:
        with torch.inference_mode(), on(self._stream):
            while True:
                with self._changed:
                    if self._idle and not self._changed.wait_for(lambda: not self._idle, LINGER):
                        self._thread = None
                        return
                try:
                    self._turn_or_shrink()
                except Exception as error:
                    log.exception("the language model failed")
                    self._fail(device_failure(error) or error)

    def _turn_or_shrink(self) -> None:
        try:
            with self._device_turn:
                self._turn()
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            failure = failure_of(error)
            log.warning("out of memory with %d rows: %s", len(self._batch), error)
        else:
            return
        # Only here, past the handler, has the traceback let go of the tensors that were too many.
        self._shrink(failure)

    @property
    def _idle(self) -> bool:
        return not (self._batch or self._unread or self._waiting)

    def _turn(self) -> None:
        """Let rows leave and join, then compute one token of each."""
        self._turns += 1
        self._leave()
        self._join()
        self._leave()  # what was answered by its first token
        if self._batch:
            self._step()
        while self._unread and (self._unread[0].turn + self._lag <= self._turns or not self._batch):
            self._read()

    def _leave(self) -> None:
        """Take rows that are done, or need no more tokens, out of the batch."""
        for place in reversed(range(len(self._batch))):
            asked = self._batch[place]
            if not (asked.done or asked.complete):
                continue
            last = len(self._batch) - 1
            if place != last:
                self._rows.move(last, place, self._batch[last].position)
                self._batch[place] = self._batch[last]
            self._batch.pop()

    def _join(self) -> None:
        """Give free places to waiting rows and run their prompts."""
        joining = list(self._admit(self.slots - len(self._batch)))
        if not joining:
            return
        first = len(self._batch)
        now = time.perf_counter()
        for asked in joining:
            asked.started = asked.started or now
        # From here on a failure finds them in the batch.
        self._batch += joining
        prompts = []
        for place, asked in enumerate(joining, first):
            # What the plan leaves no choice about needs no step of its own.
            for token in asked.route.forced[len(asked.tokens) : asked.row.limit]:
                asked.take(token)
            asked.drawn = len(asked.tokens)
            prompts.append((*asked.row.prompt, *asked.tokens))
            self._rows.set(
                place,
                asked.row.name,
                asked.row.limit,
                fed=len(prompts[-1]),
                drawn=asked.drawn,
                end_from=asked.route.end_from,
                how=asked.sampling,
            )
        hidden = self._lm.prefill(prompts, self._rows.cache.rows(first, len(joining)))
        self._choose(hidden, first, joining)

    def _admit(self, free: int) -> Iterator[TokenSequence]:
        """The next rows: of the job with the fewest running, within a bound on prompt tokens."""
        running: dict[Hashable, int] = {}
        for asked in self._batch:
            running[asked.job] = running.get(asked.job, 0) + 1
        tokens = count = longest = 0
        with self._changed:
            while self._waiting and free:
                job = min(self._waiting, key=lambda job: running.get(job, 0))
                queue = self._waiting.pop(job)
                asked = queue.popleft()
                # After a shrink, what was spoken is read again with the prompt.
                length = len(asked.row.prompt) + len(asked.tokens)
                longest = max(longest, length)
                too_many = (
                    (count + 1) * longest > PREFILL_PADDED
                    if self._on_gpu
                    else tokens + length > PREFILL
                )
                if not asked.done and count and too_many:
                    queue.appendleft(asked)
                    self._waiting = {job: queue, **self._waiting}
                    return
                if queue:
                    self._waiting[job] = queue  # behind the others
                if asked.done:
                    continue
                running[job] = running.get(job, 0) + 1
                tokens += length
                count += 1
                free -= 1
                yield asked

    def _step(self) -> None:
        """Feed each row's last token and draw its next one."""
        for asked in self._batch:
            asked.steps += 1
            asked.company += len(self._batch)
        length = max(asked.position for asked in self._batch) + 1
        hidden = self._rows.advance(len(self._batch), length)
        self._choose(hidden, 0, self._batch, stepped=True)

    def _choose(
        self, hidden: Tensor, first: int, rows: Sequence[TokenSequence], *, stepped: bool = False
    ) -> None:
        """Draw a token of each row from its hidden state [rows, D], as its plan has it now.

        The row rows[i] stands at place first + i. Those that draw alike are drawn together.
        `stepped`: the states are those that the rows have just advanced to.
        """
        groups: dict[tuple[frozenset[int], int | None, int], list[int]] = {}
        for i, asked in enumerate(rows):
            if not asked.complete:
                alike = asked.route.at(asked.drawn), asked.route.end, asked.width
                groups.setdefault(alike, []).append(i)
        for (cut, end, most), members in groups.items():
            head, whole = self._routes.head(cut, end), len(members) == len(rows)
            if stepped and self._rows.draws_captured(head, most):
                chosen = set(members)
                tokens = self._rows.draw_captured(len(rows), chosen)
                self._note([row if i in chosen else None for i, row in enumerate(rows)], tokens)
                continue
            places = slice(first, first + len(rows)) if whole else [first + i for i in members]
            states = hidden if whole else hidden[on_device(members, hidden.device)]
            tokens = self._rows.draw(states, places, head)
            self._note([rows[i] for i in members], tokens)

    def _note(self, rows: Sequence[TokenSequence | None], tokens: Tensor) -> None:
        """The rows' next tokens are drawn: read them when they have come."""
        for asked in rows:
            if asked is not None:
                asked.drawn += 1
        self._unread.append(Drawn.on_its_way(self._turns, list(rows), tokens))

    def _read(self) -> None:
        """Hand the oldest tokens that were not yet read to their rows."""
        drawn = self._unread[0]
        tokens = drawn.read()  # where this fails, rows that left the batch are still found here
        self._unread.popleft()
        for asked, token in zip(drawn.rows, tokens, strict=True):
            if asked is not None:
                asked.take(token)
        if NOTHING in tokens:
            self._rows.scrub()  # some may have left their places already

    # When memory or the device fails

    def _shrink(self, failure: Failure | None) -> None:
        """Halve the slots; rows without a place wait again, and go on from the tokens they have.

        A row that had all the memory to itself fails, and it alone.
        """
        while self._unread:  # some may be the last ones of rows that have left
            self._read()
        alone = self.slots == 1
        self._halve()  # where this fails, the rows are still found in the batch
        rows, self._batch = [asked for asked in self._batch if not asked.done], []
        if not alone:
            self._requeue(rows)
            return
        error = alone_and_failed(
            failure, "the memory does not suffice for a sentence, even alone; use shorter ones"
        )
        for asked in rows:
            asked.finish(error)

    def _halve(self) -> None:
        self.slots = max(1, self.slots // 2)
        log.warning("%d rows run at once from now on", self.slots)
        self._state = None  # its memory is what the new one needs
        if self._on_gpu:
            empty_cache()

    def _requeue(self, rows: Sequence[TokenSequence]) -> None:
        with self._changed:
            for asked in reversed(rows):
                queue = self._waiting.pop(asked.job, deque())
                queue.appendleft(asked)
                self._waiting = {asked.job: queue, **self._waiting}  # before the others

    def _fail(self, error: Exception) -> None:
        """Answer all rows, running and waiting, with the error."""
        unread = [
            asked for drawn in self._unread for asked in drawn.rows if asked
        ]  # some have left
        self._unread.clear()
        with self._changed:
            waiting = [asked for queue in self._waiting.values() for asked in queue]
            rows = self._batch + unread + waiting
            self._batch = []
            self._waiting.clear()
        for asked in rows:
            asked.finish(error)


def answer(
    lm: Decoder, rows: Sequence[SequenceRequest], plan: Grammar, sampling: Sampling
) -> list[Answer]:
    """The answers of all rows, in order, from one batch of their own."""
    longest = max(len(row.prompt) + row.limit for row in rows)
    batcher = Scheduler(lm, slots=len(rows), positions=longest)
    return [asked.answer() for asked in batcher.submit(rows, plan, sampling)]
