"""Continuous batching: many sequences through one language model, joining and leaving at any step.

Each sequence has its own prompt, grammar, sampling and end; what shares the batch with it decides
nothing about it but the time it takes. A step of the batch:

    leave     sequences that are answered or given up free their slots
    join      waiting ones take them (admission.py says which), and their prompts are read: prefill
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
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from worker.cancellation import Cancellation
from worker.errors import BusyError, JobCancelledError, SynthesisError
from worker.logs import event
from worker.speech.batch.admission import CPU_BUDGET, GPU_BUDGET, AdmissionQueue
from worker.speech.batch.device_batch import NOTHING, DeviceBatch
from worker.speech.batch.output_head import OutputHeads
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import DrawnTokens, SequenceRequest, TokenSequence
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
from worker.speech.lm.interface import Decoder

LINGER = 0.25  # seconds that the thread waits for more before it ends


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
            self._device_batch: DeviceBatch | None = DeviceBatch(lm, slots, self.positions)
        self._running: list[TokenSequence] = []  # by place in the batch
        self._steps = 0
        self._unread: deque[DrawnTokens] = deque()
        self._on_gpu = lm.device.type == "cuda"
        self._lag = 1 if self._on_gpu else 0  # steps after which drawn tokens are read
        self._changed = threading.Condition()
        self._waiting: AdmissionQueue[TokenSequence] = AdmissionQueue(
            GPU_BUDGET if self._on_gpu else CPU_BUDGET
        )
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
    ) -> list[TokenSequence]:
        """Queue sequences together, in the requests' order; each can then be waited for.

        Raises SynthesisError when a prompt leaves no room, BusyError when too much waits.
        """
        for request in requests:
            self._check_room(request)
        if not requests:
            return []
        with self._changed:
            compiled = self._heads.compiled(grammar)
            sequences = [TokenSequence(one, compiled, sampling, job) for one in requests]
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
                cancellation.call(partial(self.cancel, sequence))
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
    def _idle(self) -> bool:
        return not (self._running or self._unread or self._waiting)

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
        self._join()
        self._leave()  # what was answered by its first token
        if self._running:
            self._advance()
        while self._unread and (
            self._unread[0].step + self._lag <= self._steps or not self._running
        ):
            self._read()

    def _leave(self) -> None:
        """Take sequences that are done, or need no more tokens, out of the batch."""
        for place in reversed(range(len(self._running))):
            sequence = self._running[place]
            if not (sequence.done or sequence.fully_drawn):
                continue
            last = len(self._running) - 1
            if place != last:
                self._batch.move(last, place, self._running[last].position)
                self._running[place] = self._running[last]
            self._running.pop()

    def _join(self) -> None:
        """Give free slots to waiting sequences and read their prompts."""
        with self._changed:
            free = self.slots - len(self._running)
            joining = self._waiting.admit(free, [running.job for running in self._running])
        if not joining:
            return
        first = len(self._running)
        now = time.perf_counter()
        for sequence in joining:
            sequence.started = sequence.started or now
        # From here on a failure finds them in the batch.
        self._running += joining
        prompts = [self._begin(place, sequence) for place, sequence in enumerate(joining, first)]
        hidden = self._lm.prefill(prompts, self._batch.cache.rows(first, len(joining)))
        self._draw(hidden, first, joining)

    def _begin(self, place: int, sequence: TokenSequence) -> tuple[int, ...]:
        """Set a sequence up at its place; what is to be read of it, its prompt first."""
        request, grammar = sequence.request, sequence.grammar
        # What the grammar leaves no choice about needs no step of its own.
        for token in grammar.opening[len(sequence.tokens) : request.limit]:
            sequence.add(token)
        sequence.drawn = len(sequence.tokens)
        prompt = (*request.prompt, *sequence.tokens)
        self._batch.set(
            place,
            request.name,
            request.limit,
            fed=len(prompt),
            drawn=sequence.drawn,
            end_from=grammar.end_from,
            how=sequence.sampling,
        )
        return prompt

    def _advance(self) -> None:
        """Feed each sequence's last token and draw its next one."""
        for sequence in self._running:
            sequence.steps += 1
            sequence.neighbours += len(self._running)
        length = max(sequence.position for sequence in self._running) + 1
        hidden = self._batch.advance(len(self._running), length)
        self._draw(hidden, 0, self._running, stepped=True)

    def _draw(
        self,
        hidden: Tensor,
        first: int,
        sequences: Sequence[TokenSequence],
        *,
        stepped: bool = False,
    ) -> None:
        """Draw a token of each sequence from its hidden state [n, D], as its grammar has it now.

        sequences[i] stands at place first + i. Those that draw alike are drawn together. `stepped`:
        the states are those that the sequences have just advanced to.
        """
        for (allowed, end, width), members in _drawing_alike(sequences).items():
            head, whole = self._heads.get(allowed, end), len(members) == len(sequences)
            if stepped and self._batch.draws_captured(head, width):
                chosen = set(members)
                tokens = self._batch.draw_captured(len(sequences), chosen)
                self._send(
                    [one if i in chosen else None for i, one in enumerate(sequences)], tokens
                )
                continue
            places = slice(first, first + len(sequences)) if whole else [first + i for i in members]
            states = hidden if whole else hidden[on_device(members, hidden.device)]
            tokens = self._batch.draw(states, places, head)
            self._send([sequences[i] for i in members], tokens)

    def _send(self, sequences: Sequence[TokenSequence | None], tokens: Tensor) -> None:
        """Send the sequences' next tokens, just drawn, to the host."""
        for sequence in sequences:
            if sequence is not None:
                sequence.drawn += 1
        self._unread.append(DrawnTokens.sent(self._steps, list(sequences), tokens))

    def _read(self) -> None:
        """Add the oldest tokens that were not yet read to their sequences."""
        drawn = self._unread[0]
        tokens = drawn.read()  # where this fails, those that left the batch are still found here
        self._unread.popleft()
        for sequence, token in zip(drawn.sequences, tokens, strict=True):
            if sequence is not None:
                sequence.add(token)
        if NOTHING in tokens:
            self._batch.scrub()  # some may have left their places already

    @property
    def _batch(self) -> DeviceBatch:
        """The batch on the device: after it was halved, made anew by the first that joins."""
        if self._device_batch is None:
            self._device_batch = DeviceBatch(self._lm, self.slots, self.positions)
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
        left, self._running = [one for one in self._running if not one.done], []
        if not alone:
            with self._changed:
                self._waiting.put_back(left)
            return
        error = failed_alone(
            failure, "not enough memory for a sentence, even alone; use shorter sentences"
        )
        for sequence in left:
            sequence.finish(error)

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
            sequences = self._running + unread + self._waiting.clear()
            self._running = []
        for sequence in sequences:
            sequence.finish(error)


def _drawing_alike(
    sequences: Sequence[TokenSequence],
) -> dict[tuple[frozenset[int], int | None, int], list[int]]:
    """Who draws next, by allowed tokens, end and width: their numbers in `sequences`."""
    alike: dict[tuple[frozenset[int], int | None, int], list[int]] = {}
    for i, sequence in enumerate(sequences):
        if not sequence.fully_drawn:
            allowed = sequence.grammar.allowed_at(sequence.drawn)
            alike.setdefault((allowed, sequence.grammar.end, sequence.width), []).append(i)
    return alike
