"""Continuous batching: many sequences through one language model, joining and leaving at any step.

Each sequence has its own prompt, grammar, sampling and end; what shares the batch with it decides
nothing about it but the time it takes. A step of the batch:

    leave     sequences that are answered or given up free their slots
    room      each running one has room in the cache for its next position; where there is none,
              the one that started last gives its room up, and waits before all others
    join      waiting ones take free slots (admission.py says which)
    prefill   so much of their prompts is read as the budget lets; a prompt's end gives its first
              token, and its sequence runs
    advance   each running one is fed its last token, and its next one is drawn
    read      drawn tokens come to the host, and are added to their sequences

A thread runs while there is something to do, and ends when there is not. On a GPU the tokens of a
step are read while the next one is already computed: that a sequence has ended is noticed one step
later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from worker.cancellation import Cancellation
from worker.errors import BusyError, JobCancelledError, MemoryShortError, SynthesisError
from worker.logs import event
from worker.speech.batch.admission import AdmissionQueue, budget_for
from worker.speech.batch.device_batch import NOTHING, DeviceBatch
from worker.speech.batch.fused_batch import batch_for
from worker.speech.batch.output_head import OutputHeads
from worker.speech.batch.places import Places
from worker.speech.batch.prompt_reader import PromptReader
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import Company, DrawnTokens, SequenceRequest, TokenSequence
from worker.speech.batch.step_plan import DrawGroup, StepPlan, groups_of
from worker.speech.device import FIRST, empty_cache, on, on_device, stream_on
from worker.speech.device_errors import (
    Failure,
    device_failure,
    failed_alone,
    failure_of,
    short_of_memory,
)
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import CompiledGrammar, Grammar
from worker.speech.listener import NEVER
from worker.speech.lm.interface import Decoder

LINGER = 0.25  # seconds that the thread waits for more before it ends
ALONE = "not enough memory for a sentence, even alone; use shorter sentences"


class Scheduler:
    """Runs sequences through one decoder; the only one that touches its cache.

    At most `slots` sequences run at once, at most `positions` tokens long, prompt included, and
    `max_waiting` wait. Where the device's memory does not suffice, the slots are halved. With a
    `lock`, each step takes its turn at the device.
    """

    def __init__(
        self,
        lm: Decoder,
        slots: int = 16,
        positions: int | None = None,
        max_waiting: int = 4096,
        lock: FairLock | None = None,
    ) -> None:
        self._lm = lm
        self.slots = slots
        self.positions = min(positions or 1 << 30, lm.config.max_position_embeddings)
        self._max_waiting = max_waiting
        self._lock: AbstractContextManager[object] = lock or nullcontext()
        self._stream = stream_on(lm.device, FIRST)
        self._heads = OutputHeads(lm)
        self._captured: CompiledGrammar | None = None  # whose draws are captured
        with on(self._stream):
            self._device_batch: DeviceBatch | None = batch_for(lm, slots, self.positions)
            self._widths = self._device_batch.widths
        self._places = Places()
        self._plan: StepPlan | None = None  # None: it has changed who runs
        self._stale = False  # whether some that run may be done
        self._crowded = False  # whether the next one was found not to fit, and nobody has left
        self._company = Company()
        self._steps = 0
        self._unread: deque[DrawnTokens] = deque()
        self._hosts: list[Tensor] = []  # where tokens came to, read by now
        self._on_gpu = lm.device.type == "cuda"
        self._lag = 1 if self._on_gpu else 0  # steps after which drawn tokens are read
        self._changed = threading.Condition()
        budget = budget_for(on_gpu=self._on_gpu, in_parts=lm.in_parts)
        self._waiting: AdmissionQueue[TokenSequence] = AdmissionQueue(budget)
        self._prompts = PromptReader(lm, budget)
        self._thread: threading.Thread | None = None

    # For those who ask

    def submit(
        self,
        requests: Sequence[SequenceRequest],
        grammar: Grammar,
        sampling: Sampling,
        *,
        job: Hashable = None,
        cancellation: Cancellation | None = None,
        needed: Callable[[], float] = lambda: NEVER,
    ) -> list[TokenSequence]:
        """Queue sequences together, in the requests' order; each can then be waited for.

        `needed` is when somebody who listens needs them, by `time.perf_counter`; it may change.
        Raises SynthesisError when a prompt leaves no room, BusyError when too much waits.
        """
        for request in requests:
            self._check_room(request)
        if not requests:
            return []
        with self._changed:
            compiled = self._heads.compiled(grammar)
            sequences = [
                TokenSequence(one, compiled, sampling, job, needed, self._widths)
                for one in requests
            ]
            if len(self._waiting) + len(requests) > self._max_waiting:
                raise BusyError(
                    f"{self._max_waiting} sentences wait already; try again in a moment"
                )
            self._waiting.add(job, sequences)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if cancellation is not None:
            for sequence in sequences:
                sequence.when_done(cancellation.call(partial(self.cancel, sequence)))
        return sequences

    def _check_room(self, request: SequenceRequest) -> None:
        if len(request.prompt) + request.limit > self.positions:
            raise SynthesisError(
                f"a prompt of {len(request.prompt)} tokens and an answer of {request.limit} need "
                f"more than the {self.positions} positions that a sentence has"
            )

    def cancel(self, sequence: TokenSequence) -> None:
        """Give the sequence up: it waits no longer, and leaves the batch before the next step."""
        sequence.finish(JobCancelledError("the job was cancelled"))
        self._stale = True

    def count(self) -> tuple[int, int]:
        """How many sequences are in the batch, and how many wait; from any thread."""
        with self._changed:
            return len(self._places), len(self._waiting)

    def prepare(self, grammar: Grammar) -> None:
        """Make what sequences of this grammar will need, so that the first does not wait for it.

        To be called before the first one is submitted. Where memory is short, fewer run at once.
        """
        compiled = self._heads.compiled(grammar)
        with torch.inference_mode(), on(self._stream):
            for allowed in dict.fromkeys(compiled.allowed):
                self._heads.pin(allowed, compiled.end)
            while not self._captures(compiled):
                # Only here, past its handler, has the traceback let go of what was too much.
                self._free_half()
        self._captured = compiled

    def _captures(self, compiled: CompiledGrammar) -> bool:
        """Whether steps of this grammar are captured, or need not be; not if memory is short."""
        try:
            self._batch.capture(self._heads.get(compiled.allowed[-1], compiled.end))
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error) or self.slots == 1:
                raise
            self._note_halving(error)
            return False
        return True

    # The thread

    def _serve(self) -> None:
        with torch.inference_mode(), on(self._stream):
            while True:
                with self._changed:
                    if self._idle and not self._changed.wait_for(lambda: not self._idle, LINGER):
                        self._thread = None
                        return
                try:
                    self._step_or_halve()
                except Exception as error:
                    event(logging.ERROR, "the language model failed", cause=error)
                    self._fail(device_failure(error) or error)

    @property
    def _running(self) -> list[TokenSequence]:
        """The sequences that run, by place."""
        return self._places.running

    @property
    def _idle(self) -> bool:
        return not (self._places or self._unread or self._waiting)

    def _step_or_halve(self) -> None:
        try:
            with self._lock:
                self._step()
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            failure = failure_of(error)
            self._note_halving(error)
        else:
            return
        # Only here, past the handler, has the traceback let go of the tensors that were too many.
        self._halve(failure)

    def _step(self) -> None:
        """Let sequences leave and join, then compute one token of each."""
        self._steps += 1
        self._leave()
        self._make_room()
        self._join()
        if self._places.reading:
            self._read_prompts()
        if self._running:
            self._advance()
        while self._unread and (
            self._unread[0].step + self._lag <= self._steps or not self._running
        ):
            self._read()

    def _leave(self) -> None:
        """Take sequences that are done, or need no more tokens, out of the batch."""
        if self._plan is not None and self._plan.steps > 0 and not self._stale:
            return
        self._stale = False  # before it is looked who is done: another may be, meanwhile
        self._plan = None
        going = {one for one in self._places.all if one.over}
        if going:
            self._take_out(going)

    def _take_out(self, going: Collection[TokenSequence]) -> None:
        self._plan, self._crowded = None, False
        self._places.take_out(going, self._batch)

    # Room

    def _make_room(self) -> None:
        """See that each running sequence has room for its next position; else one gives way."""
        if self._plan is not None:
            return  # it ends where anyone's room does
        while self._running and not self._places.have_room(self._batch.cache):
            self._give_way()

    def _give_way(self) -> None:
        """Put the sequence that started last back, with the tokens that it has."""
        while self._unread:  # which may be the last ones of some
            self._read()
        if self._stale:
            self._leave()
            return
        newest, alone = self._places.newest, len(self._places) == 1
        self._take_out([newest])
        if alone:
            self._fail_alone(newest)
            return
        with self._changed:
            self._waiting.put_back([newest])

    def _fail_alone(self, sequence: TokenSequence) -> None:
        event(
            logging.WARNING,
            "out of memory",
            what="a sentence, alone",
            error=f"the cache has too few pages for {sequence.prompt_length} tokens and more",
        )
        sequence.finish(MemoryShortError(ALONE))

    # Prompts

    def _join(self) -> None:
        """Give free slots to waiting sequences, as far as there is room for them."""
        places = self._places
        taken = len(places)
        if taken == self.slots or self._crowded or not self._waiting:
            return
        with self._changed:
            left = [self._prompts.left(one) for one in places.reading]
            joining = self._waiting.admit(self.slots - taken, [one.job for one in places.all], left)
        # From here on a failure finds them in the batch.
        places.reading += joining
        now = time.perf_counter()
        for place, sequence in enumerate(joining, taken):
            if not places.seat(place, sequence, self._batch.cache):
                self._turn_away(place)
                return
            sequence.started = sequence.started or now
            sequence.open()

    def _turn_away(self, place: int) -> None:
        """Let those from this place on wait again; but one that has the cache to itself fails."""
        reading, first = self._places.reading, place - len(self._running)
        away, reading[first:] = reading[first:], []
        if place == 0:
            self._fail_alone(away.pop(0))
        else:
            self._crowded = True
        with self._changed:
            self._waiting.put_back(away)

    def _read_prompts(self) -> None:
        """Read on in prompts; those that have been read run from now on."""
        started = self._prompts.read(self._places, self._batch)
        for one in started.sequences:
            one.join(self._company)
            self._plan = None
        if started.hidden is not None:
            for group in groups_of(started.sequences, self._heads):
                self._draw(group, started.hidden, started.first)
        if any(one.over for one in started.sequences):
            self._leave()  # what was answered by its first token

    # Tokens

    def _advance(self) -> None:
        """Feed each sequence's last token and draw its next one."""
        count, batch = len(self._running), self._batch
        plan = self._plan = self._plan or StepPlan.of(
            self._running, self._heads, batch.draws_captured
        )
        self._company.steps += 1
        self._company.sequences += count
        batch.cache.flush()
        hidden = batch.advance(count, plan.length, plan.captured.places if plan.captured else ())
        for group in plan.groups:
            if group is plan.captured:
                self._send(group.spread, batch.captured_draw)
                self._count_drawn(group)
            else:
                self._draw(group, hidden)
        plan.advance()

    def _draw(self, group: DrawGroup, hidden: Tensor, first: int = 0) -> None:
        """Draw a token of each sequence of the group, of those whose states [n, D] these are.

        The group's place 0 is the batch's `first`.
        """
        if group.whole:
            places: slice | list[int] = slice(first, first + len(group.places))
        else:
            places = [first + place for place in group.places]
            hidden = hidden[on_device(group.places, hidden.device)]
        self._send(group.sequences, self._batch.draw(hidden, places, group.head))
        self._count_drawn(group)

    def _count_drawn(self, group: DrawGroup) -> None:
        for one in group.sequences:
            one.drawn += 1

    def _send(self, sequences: Sequence[TokenSequence | None], tokens: Tensor) -> None:
        """Send the sequences' next tokens, just drawn, to the host."""
        host = self._hosts.pop() if self._hosts else None
        self._unread.append(DrawnTokens.sent(self._steps, sequences, tokens, host))

    def _read(self) -> None:
        """Add the oldest tokens that were not yet read to their sequences."""
        drawn = self._unread[0]
        tokens = drawn.read()  # where this fails, those that left the batch are still found here
        self._unread.popleft()
        if drawn.event is not None:
            self._hosts.append(drawn.tokens)
        for sequence, token in zip(drawn.sequences, tokens, strict=True):
            if sequence is not None and sequence.add(token):
                self._stale = True
        if NOTHING in tokens:
            self._batch.scrub()  # some may have left their places already

    @property
    def _batch(self) -> DeviceBatch:
        """The batch on the device: after it was halved, made anew by the first that joins."""
        if self._device_batch is None:
            self._device_batch = batch_for(self._lm, self.slots, self.positions)
            if self._captured is not None:
                captured = self._captured
                self._device_batch.capture(self._heads.get(captured.allowed[-1], captured.end))
        return self._device_batch

    # When memory or the device fails

    def _note_halving(self, error: BaseException) -> None:
        if self.slots > 1:
            event(logging.WARNING, "batch halved", slots=self.slots // 2, error=str(error))
        else:
            event(logging.WARNING, "out of memory", what="a sentence, alone", error=str(error))

    def _halve(self, failure: Failure | None) -> None:
        """Halve the slots; sequences that lost theirs wait again, and keep the tokens they have.

        One that had all the memory to itself fails, and it alone.
        """
        while self._unread:  # some may be the last ones of sequences that have left
            self._read()
        alone = self.slots == 1
        self._free_half()  # where this fails, the sequences are still found in the batch
        left = [one for one in self._places.all if not one.done]
        self._empty()
        if not alone:
            with self._changed:
                self._waiting.put_back(left)
            return
        error = failed_alone(failure, ALONE)
        for sequence in left:
            sequence.finish(error)

    def _empty(self) -> None:
        """Take all sequences out of the batch."""
        self._plan, self._crowded = None, False
        self._places.clear(None if self._device_batch is None else self._device_batch.cache)

    def _free_half(self) -> None:
        self.slots = max(1, self.slots // 2)
        self._device_batch = None  # its memory is what the new one needs
        if self._on_gpu:
            empty_cache()

    def _fail(self, error: Exception) -> None:
        """Answer all sequences, running and waiting, with the error."""
        unread = [one for drawn in self._unread for one in drawn.sequences if one]  # some have left
        self._unread.clear()
        with self._changed:
            sequences = self._places.all + unread + self._waiting.clear()
            self._empty()
        for sequence in sequences:
            sequence.finish(error)
