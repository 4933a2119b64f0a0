"""What a batch needs of a language model, whichever kernels it runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig

Logits = Callable[[Tensor], Tensor]  # hidden states [B, D] -> logits [B, n] of n chosen tokens


class Cache(Protocol):
    """Keys and values of some rows, for a number of positions each."""

    def rows(self, first: int, count: int, /) -> Any:
        """View these rows alone, in the same memory; row `first` is then row 0."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of row `source` to row `target`."""

    def scrub(self) -> None:
        """Replace each NaN: even masked, it would reach the rows that come to its place."""


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

    def new_cache(self, rows: int, positions: int) -> Any:
        """Make a Cache for `rows` sequences of at most `positions` tokens."""

    def prefill(self, prompts: Sequence[Sequence[int]], cache: Any) -> Tensor:
        """Run each prompt into a row of the cache: the hidden states [rows, D] after their ends."""

    def step(self, ids: Tensor, positions: Tensor, cache: Any, length: int, /) -> Tensor:
        """Run one more token of each row, ids [B] at positions [B], all below `length`: [B, D]."""

    def head(self, ids: Tensor) -> Logits:
        """Cut the output matrix to these tokens [n]: hidden states to the logits of these alone."""
