"""One sequence on its way through the batch: one thread waits for it, the scheduler's makes it.

What is there, in the order in which it comes to be:

    SequenceRequest   a prompt, and at most how many tokens
    TokenSequence     the sequence itself: its tokens so far, which can be waited for
    Company           how many sequences ran in the steps so far
    DrawnTokens       the tokens of one draw, of many sequences, on their way from the device
    Answer            what a sequence gave in the end
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from worker.errors import SynthesisError
from worker.speech.batch.device_batch import NOTHING, WIDTHS, width
from worker.speech.batch.sampling import Sampling
from worker.speech.grammar import CompiledGrammar
from worker.speech.listener import NEVER

ALL = 1 << 62  # tokens: more than any sequence has

# What a draw is made of: the tokens that are allowed, the one that ends, and the width.
DrawKind = tuple[frozenset[int], int | None, int]


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


@dataclass
class Company:
    """How many sequences ran, summed over the steps of a batch."""

    steps: int = 0
    sequences: int = 0


@dataclass(eq=False)
class TokenSequence:
    """A sequence that waits or runs. One thread waits for its tokens, the scheduler's adds them."""

    request: SequenceRequest
    grammar: CompiledGrammar
    sampling: Sampling
    job: Hashable
    needed: Callable[[], float] = lambda: NEVER  # when it should run, by time.perf_counter
    widths: Sequence[int] = WIDTHS  # of its batch's draws
    tokens: list[int] = field(default_factory=list)  # read from the device
    ended: bool = False
    drawn: int = 0  # tokens that were or are being computed: at least len(tokens)
    read: int = 0  # tokens of its prompt, and then of its answer, that the cache has
    room: int = 0  # positions that the cache keeps for it
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None  # when it first got a slot
    steps: int = 0
    neighbours: int = 0  # sequences in the batch, itself counted, summed over the steps
    _error: Exception | None = None
    _done: bool = False
    _joined: tuple[Company, int, int] | None = None  # the batch it runs in, as it was then
    _news: threading.Condition = field(default_factory=threading.Condition)
    _when_done: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self._stops = (self.grammar.end, NOTHING)
        self._settled = self.grammar.settled
        self._before = len(self.request.prompt) - 1
        self.last = int(min(self.request.limit, self.grammar.length))  # tokens that it has at most
        self._heeded = self.last  # tokens at which there is something to do

    # For the scheduler

    @property
    def prompt_length(self) -> int:
        """Tokens that are read when it joins: after it lost its slot, those it has, too."""
        spoken = max(len(self.tokens), min(len(self.grammar.opening), self.request.limit))
        return len(self.request.prompt) + spoken

    @property
    def due(self) -> float:
        """When it should run."""
        return self.needed()

    @property
    def room_to_start(self) -> int:
        """Positions that these need, and its first token, if it has one to come."""
        return min(self.prompt_length + 1, len(self.request.prompt) + self.request.limit)

    def prompt_part(self, count: int) -> tuple[int, ...]:
        """The next `count` of them."""
        return (*self.request.prompt, *self.tokens)[self.read : self.read + count]

    @property
    def last_token(self) -> int:
        """The last one of these."""
        return self.tokens[-1] if self.tokens else self.request.prompt[-1]

    @property
    def position(self) -> int:
        """The position in the cache of the token that is fed next."""
        return self._before + self.drawn

    @property
    def fully_drawn(self) -> bool:
        """Whether no more tokens are to be drawn, though some may still be on their way."""
        return self.drawn >= self.last

    @property
    def over(self) -> bool:
        """Whether it needs no step more."""
        return self._done or self.drawn >= self.last

    @property
    def steps_alike(self) -> int:
        """For how many steps it can run as it now does.

        Then it is fully drawn, has no room for its next position, or may draw other tokens.
        """
        drawn = self.drawn
        if drawn < self._settled:
            return 1
        left, room = self.last - drawn, self.room - self._before - drawn
        return min(room, left)

    @property
    def draw_kind(self) -> DrawKind:
        """What its next draw is made of."""
        if self.drawn >= self._settled:
            return self._last_kind
        return self.grammar.allowed_at(self.drawn), self.grammar.end, self._width

    @cached_property
    def _last_kind(self) -> DrawKind:
        return self.grammar.allowed[-1], self.grammar.end, self._width

    @cached_property
    def _width(self) -> int:
        return width(self.sampling, self.widths)

    def open(self) -> None:
        """Add what the grammar leaves no choice about: that needs no step of its own."""
        for token in self.grammar.opening[len(self.tokens) : self.request.limit]:
            self.add(token)
        self.drawn = len(self.tokens)

    def join(self, company: Company) -> None:
        """Run among these from now on."""
        self._joined = company, company.steps, company.sequences

    def leave(self) -> None:
        """Run no longer: nothing of it is in the cache."""
        self._count_company()
        self.read = self.room = 0

    def add(self, token: int) -> bool:
        """Add the next token that was drawn; whether its answer stands by now."""
        if self._done:
            return True  # drawn before it was known that the sequence had ended
        if token in self._stops:
            self._stop(token)
            return True
        self.tokens.append(token)
        if len(self.tokens) >= self._heeded:
            self._heed()
        return self._done

    def finish(self, error: Exception | None = None) -> None:
        """Answer, or fail: the first call decides."""
        self._count_company()
        with self._news:
            if not self._done:
                self._error = error
                self._done = True
            self._news.notify_all()
            listener, self._when_done = self._when_done, None
        if listener is not None:
            listener()

    def when_done(self, listener: Callable[[], None]) -> None:
        """Have `listener`, its only one, called when it has ended; at once where it has."""
        with self._news:
            if not self._done:
                self._when_done = listener
                return
        listener()

    def _stop(self, token: int) -> None:
        if token == NOTHING:
            self.finish(
                SynthesisError("the model gave no numbers for a sentence (NaN); try another seed")
            )
        else:
            self.ended = True
            self.finish()

    def _heed(self) -> None:
        """Tell of the tokens that someone waits for, or that they are all."""
        if len(self.tokens) < self.last:
            with self._news:
                self._news.notify_all()
            return
        whole = self.grammar.end is None and len(self.tokens) == self.grammar.length
        self.ended = whole
        self.finish()

    def _count_company(self) -> None:
        """Count those beside whom it ran."""
        if self._joined is not None:
            company, steps, sequences = self._joined
            self._joined = None
            self.steps += company.steps - steps
            self.neighbours += company.sequences - sequences

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
            self._heeded = min(wanted, self.last)
            while not self._done and len(self.tokens) < wanted:
                self._news.wait()
            self._heeded = self.last
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
    sequences: Sequence[TokenSequence | None]  # None: what stands there was not drawn for anyone
    tokens: Tensor  # long [sequences and more], in the host's memory once `event` has come
    event: torch.cuda.Event | None

    @classmethod
    def sent(
        cls,
        step: int,
        sequences: Sequence[TokenSequence | None],
        tokens: Tensor,
        host: Tensor | None = None,
    ) -> DrawnTokens:
        """Send tokens to the host from where they were drawn: to `host`, if that has room."""
        if tokens.device.type != "cuda":
            return cls(step, sequences, tokens, None)
        if host is None or len(host) < len(tokens):
            host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        host[: len(tokens)].copy_(tokens, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's are
        event.record()  # type: ignore[no-untyped-call]  # torch's too
        return cls(step, sequences, host, event)

    def read(self) -> list[int]:
        """Wait for the tokens, and give them."""
        if self.event is not None:
            self.event.synchronize()
        tokens: list[int] = self.tokens.tolist()
        return tokens[: len(self.sequences)]
