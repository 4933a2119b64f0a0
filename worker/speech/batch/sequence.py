"""One sequence on its way through the batch: one thread waits for it, the scheduler's makes it.

What is there, in the order in which it comes to be:

    SequenceRequest   a prompt, and at most how many tokens
    TokenSequence     the sequence itself: its tokens so far, which can be waited for
    DrawnTokens       the tokens of one draw, of many sequences, on their way from the device
    Answer            what a sequence gave in the end
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from worker.errors import SynthesisError
from worker.speech.batch.device_batch import NOTHING, width
from worker.speech.batch.sampling import Sampling
from worker.speech.grammar import CompiledGrammar

ALL = 1 << 62  # tokens: more than any sequence has


@dataclass(frozen=True)
class SequenceRequest:
    """One sequence: its prompt, the name that its draws are derived from, and its most tokens."""

    prompt: tuple[int, ...]
    name: str
    limit: int


@dataclass(frozen=True)
class Answer:
    """What the model answered in one sequence."""

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut off at the request's limit
    queue_seconds: float = 0.0  # that it waited for a slot
    occupancy: float = 1.0  # sequences in its batch on average, itself counted


@dataclass(eq=False)
class TokenSequence:
    """A sequence that waits or runs. One thread waits for its tokens, the scheduler's adds them."""

    request: SequenceRequest
    grammar: CompiledGrammar
    sampling: Sampling
    job: Hashable
    tokens: list[int] = field(default_factory=list)  # read from the device
    ended: bool = False
    drawn: int = 0  # tokens that were or are being computed: at least len(tokens)
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None  # when it first got a slot
    steps: int = 0
    neighbours: int = 0  # sequences in the batch, itself counted, summed over the steps
    _error: Exception | None = None
    _done: bool = False
    _wanted: int = ALL
    _news: threading.Condition = field(default_factory=threading.Condition)

    # For the scheduler

    @property
    def prompt_length(self) -> int:
        """Tokens that are read when it joins: after it lost its slot, those it has, too."""
        return len(self.request.prompt) + len(self.tokens)

    @property
    def position(self) -> int:
        """The position in the cache of the token that is fed next."""
        return len(self.request.prompt) + self.drawn - 1

    @property
    def fully_drawn(self) -> bool:
        """Whether no more tokens are to be drawn, though some may still be on their way."""
        return self.drawn >= self.request.limit or self.drawn >= self.grammar.length

    @cached_property
    def width(self) -> int:
        """Candidates that its draws look at."""
        return width(self.sampling)

    def add(self, token: int) -> None:
        """Add the next token that was drawn."""
        if self._done:
            return  # drawn before it was known that the sequence had ended
        if token == NOTHING:
            self.finish(
                SynthesisError("the model gave no numbers for a sentence (NaN); try another seed")
            )
            return
        if token == self.grammar.end:
            self.ended = True
            self.finish()
            return
        self.tokens.append(token)
        whole = self.grammar.end is None and len(self.tokens) == self.grammar.length
        if whole or len(self.tokens) == self.request.limit:
            self.ended = whole
            self.finish()
        elif len(self.tokens) >= self._wanted:
            with self._news:
                self._news.notify_all()

    def finish(self, error: Exception | None = None) -> None:
        """Answer, or fail: the first call decides."""
        with self._news:
            if not self._done:
                self._error = error
                self._done = True
            self._news.notify_all()

    # For its asker

    @property
    def done(self) -> bool:
        """Whether its answer stands."""
        return self._done

    def wait(self, count: int | None = None) -> tuple[Sequence[int], bool]:
        """All tokens so far, once there are `count` or no more will come; and whether that is so.

        Raises what the sequence failed with.
        """
        wanted = ALL if count is None else count
        with self._news:
            self._wanted = wanted
            while not self._done and len(self.tokens) < wanted:
                self._news.wait()
            self._wanted = ALL
        if self._error is not None:
            raise self._error
        return self.tokens, self._done

    def answer(self) -> Answer:
        """The whole answer, waited for. Raises what the sequence failed with."""
        self.wait()
        return Answer(
            tuple(self.tokens),
            self.ended,
            (self.started or self.submitted) - self.submitted,
            self.neighbours / self.steps if self.steps else 1.0,
        )


@dataclass(frozen=True)
class DrawnTokens:
    """The tokens of one draw, on their way from the device."""

    step: int  # in which they were drawn
    sequences: list[TokenSequence | None]  # None: what stands there was not drawn for anyone
    tokens: Tensor  # long [sequences], in the host's memory once `event` has come
    event: torch.cuda.Event | None

    @classmethod
    def sent(cls, step: int, sequences: list[TokenSequence | None], tokens: Tensor) -> DrawnTokens:
        """Send tokens to the host from where they were drawn."""
        if tokens.device.type != "cuda":
            return cls(step, sequences, tokens, None)
        host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        host.copy_(tokens, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's are
        event.record()  # type: ignore[no-untyped-call]  # torch's too
        return cls(step, sequences, host, event)

    def read(self) -> list[int]:
        """Wait for the tokens, and give them."""
        if self.event is not None:
            self.event.synchronize()
        return [int(token) for token in self.tokens.tolist()]
