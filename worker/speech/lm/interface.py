"""What a batch needs of a language model, whichever kernels it runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig

Logits = Callable[[Tensor], Tensor]  # hidden states [B, D] -> logits [B, n] of n chosen tokens


@dataclass(frozen=True)
class RowDraws:
    """How the rows of a batch draw, and where they are: one tensor a quantity, by place.

    A kernel that draws moves each row on: its token, its position, its tokens of the answer.
    """

    temperature: Tensor  # float32 [slots, 1]
    top_k: Tensor  # long [slots, 1]
    top_p: Tensor  # float32 [slots, 1], as far apart as temperatures are
    uniforms: Tensor  # float64 [slots, positions]
    ids: Tensor  # long [slots]: the last token
    at: Tensor  # long [slots]: its position
    drawn: Tensor  # long [slots]: tokens of the answer
    end_from: Tensor  # long [slots]: of which it may end
    end: int | None = None  # place of the end token in the head
    places: Tensor | None = None  # long [B]: of the states; None: state i is place i's
    speaking: Tensor | None = None  # bool [slots]: whose draw counts; None: all
    count: Tensor | None = None  # long [1]: states that are there; None: all


class Cache(Protocol):
    """Keys and values of some rows, for a number of positions each.

    What a row may write has been reserved before, and `flush` called since.
    """

    @property
    def free(self) -> int | None:
        """Positions that can still be reserved, by all rows together; None: they never run out."""

    def reserve(self, row: int, positions: int, /) -> int:
        """Make room for the row's first `positions` positions: how many it now has room for.

        That may be more. 0, and nothing has changed, where too few are left.
        """

    def release(self, row: int, /) -> None:
        """Forget the row: it holds nothing any more."""

    def flush(self) -> None:
        """Tell the device what was reserved, released and copied; nothing waits for it."""

    def rows(self, first: int, count: int, /) -> Any:
        """View these rows alone, in the same memory; row `first` is then row 0."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Make row `target` what `source` is in its first `length` positions.

        Row `source` is to be released, or begun anew: it may have lost what it held.
        """

    def scrub(self) -> None:
        """See that no NaN reaches the rows that come to its place: even masked, it may."""


class WholeRows:
    """The room of a cache whose rows have all of their positions from the start."""

    free: int | None = None

    @property
    def positions(self) -> int:
        """How many positions a row has room for."""
        raise NotImplementedError

    def reserve(self, _row: int, _positions: int, /) -> int:
        """How many positions each row has room for."""
        return self.positions

    def release(self, _row: int, /) -> None:
        """Keep all as it is: the next sequence writes over it."""

    def flush(self) -> None:
        """Tell the device nothing: it knows where each row is."""


class Decoder(Protocol):
    """A causal language model: `LanguageModel` in torch, `Int8LanguageModel` in C."""

    @property
    def config(self) -> LMConfig:
        """The model's sizes."""

    @property
    def device(self) -> torch.device:
        """The device that tokens and positions must be on."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the keys and values in its cache."""

    @property
    def masked(self) -> bool:
        """Whether a step's work grows with its `length`, whatever the rows' own lengths."""

    @property
    def in_parts(self) -> bool:
        """Whether `prefill` may go on from a position other than 0."""

    def new_cache(self, rows: int, positions: int) -> Any:
        """Make a Cache for `rows` sequences of at most `positions` tokens."""

    def prefill(
        self, parts: Sequence[Sequence[int]], cache: Any, begins: Sequence[int] = (), /
    ) -> Tensor:
        """Run part i of a prompt into row i of the cache, from position begins[i] on.

        What stands before has been run; without `begins` nothing does, and the parts are whole
        prompts. Gives the hidden states [rows, D] after the parts' ends.
        """

    def step(self, ids: Tensor, positions: Tensor, cache: Any, length: int, /) -> Tensor:
        """Run one more token of each row, ids [B] at positions [B], all below `length`: [B, D]."""

    def head(self, ids: Tensor) -> Logits:
        """Cut the output matrix to these tokens [n]: hidden states to the logits of these alone."""
