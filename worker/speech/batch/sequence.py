"""One sequence on its way through the batch: asked by one thread, answered by another."""

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
from worker.speech.batch.output_head import GrammarRoute
from worker.speech.batch.sampling import Sampling


@dataclass(frozen=True)
class Answer:
    """What the model answered in one row."""

    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut off at the row's limit
    queue_seconds: float = 0.0  # that it waited for a place in the batch
    occupancy: float = 1.0  # rows in its batch on average, itself counted


@dataclass(frozen=True)
class SequenceRequest:
    """One sequence: its prompt, the name that its draws are derived from, and its most tokens."""

    prompt: tuple[int, ...]
    name: str
    limit: int


@dataclass(frozen=True)
class Drawn:
    """Tokens on their way from the device."""

    turn: int
    rows: list[TokenSequence | None]  # None: what stands there was not drawn for anyone
    tokens: Tensor  # long [rows], in the host's memory once `event` has come
    event: torch.cuda.Event | None

    @classmethod
    def on_its_way(cls, turn: int, rows: list[TokenSequence | None], tokens: Tensor) -> Drawn:
        """Of tokens where they were drawn."""
        if tokens.device.type != "cuda":
            return cls(turn, rows, tokens, None)
        host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        host.copy_(tokens, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's are
        event.record()  # type: ignore[no-untyped-call]
        return cls(turn, rows, host, event)

    def read(self) -> list[int]:
        """The tokens, waited for."""
        if self.event is not None:
            self.event.synchronize()
        return [int(token) for token in self.tokens.tolist()]


@dataclass(eq=False)
class TokenSequence:
    """A row on its way: asked by one thread, answered by the batcher's."""

    row: SequenceRequest
    route: GrammarRoute
    sampling: Sampling
    job: Hashable
    tokens: list[int] = field(default_factory=list)  # read from the device
    ended: bool = False
    drawn: int = 0  # tokens that were or are being computed: at least len(tokens)
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    steps: int = 0
    company: int = 0  # rows in the batch, summed over the steps
    _error: Exception | None = None
    _done: bool = False
    _wanted: int = 1 << 62
    _news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def position(self) -> int:
        """In the cache, of the token that is fed next."""
        return len(self.row.prompt) + self.drawn - 1

    @property
    def complete(self) -> bool:
        """Whether no more tokens are to be drawn."""
        return self.drawn >= self.row.limit or self.drawn >= self.route.length

    @cached_property
    def width(self) -> int:
        """Candidates that its draws look at."""
        return width(self.sampling)

    @property
    def done(self) -> bool:
        """Whether its answer stands."""
        return self._done

    def take(self, token: int) -> None:
        """Note the next token that was drawn."""
        if self._done:
            return  # drawn before it was known that the row had ended
        if token == NOTHING:
            self.finish(
                SynthesisError("the model gave no numbers for a sentence (NaN); try another seed")
            )
            return
        if token == self.route.end:
            self.ended = True
            self.finish()
            return
        self.tokens.append(token)
        full = self.route.end is None and len(self.tokens) == self.route.length
        if full or len(self.tokens) == self.row.limit:
            self.ended = full
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

    def wait(self, count: int = 1 << 62) -> tuple[Sequence[int], bool]:
        """All tokens so far, once there are `count` or no more will come; and whether that is so.

        Raises what the row failed with.
        """
        with self._news:
            self._wanted = count
            while not self._done and len(self.tokens) < count:
                self._news.wait()
            self._wanted = 1 << 62
        if self._error is not None:
            raise self._error
        return self.tokens, self._done

    def answer(self) -> Answer:
        """The whole answer, waited for."""
        self.wait()
        return Answer(
            tuple(self.tokens),
            self.ended,
            (self.started or self.submitted) - self.submitted,
            self.company / self.steps if self.steps else 1.0,
        )
