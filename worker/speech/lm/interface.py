"""What the batcher needs of a language model, whichever kernels it runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig

Logits = Callable[[Tensor], Tensor]  # hidden states [B, D] -> logits [B, n] of n chosen tokens


class Cache(Protocol):
    """Keys and values of some rows, at so many positions each."""

    def rows(self, first: int, count: int, /) -> Any:
        """These rows alone, in the same memory; row `first` is then row 0."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Make row `target` what row `source` is, of which `length` positions count."""

    def scrub(self) -> None:
        """Replace all that is NaN: even masked, it would reach rows that come to its place."""


class Decoder(Protocol):
    """A causal language model. `lm.LanguageModel` and `int8.Int8LanguageModel` are such."""

    @property
    def config(self) -> LMConfig:
        """Its sizes."""

    @property
    def device(self) -> torch.device:
        """Where tokens and positions must be."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its keys and values."""

    @property
    def masked(self) -> bool:
        """Whether a step's work grows with its `length`, whatever the rows' own lengths."""

    def new_cache(self, rows: int, positions: int | None = None) -> Any:
        """An empty Cache."""

    def prefill(self, prompts: Sequence[Sequence[int]], cache: Any) -> Tensor:
        """Run each prompt into a row of the cache; the hidden states [rows, D] after their ends."""

    def step(self, ids: Tensor, positions: Tensor, cache: Any, length: int, /) -> Tensor:
        """One more token ids [B] of each row, at positions [B] below `length`: states [B, D]."""

    def head(self, ids: Tensor) -> Logits:
        """What gives the logits of these tokens [n] alone."""
