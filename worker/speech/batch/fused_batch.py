"""The rows of the running batch where the language model has kernels of its own for all of a step.

These are told on the device how many rows there are: one captured size serves all smaller numbers,
and rows past the batch, whose prompts may be being read, are left alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from worker.speech.batch.cuda_graphs import CudaGraphs, up_to
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.output_head import OutputHead
from worker.speech.batch.sampling import ALL
from worker.speech.cuda.lm import TOKENS
from worker.speech.lm.fused_model import FusedHead, FusedLanguageModel
from worker.speech.lm.interface import Decoder, RowDraws
from worker.speech.lm.paged_cache import PagedCache


class FusedBatch(DeviceBatch):
    """State of `slots` rows of a FusedLanguageModel."""

    widths = (ALL,)  # its kernel draws whatever a row's top_k is
    cache: PagedCache
    _lm: FusedLanguageModel

    def __init__(self, lm: FusedLanguageModel, slots: int, positions: int) -> None:
        super().__init__(lm, slots, positions)
        self._count = torch.zeros(1, dtype=torch.long, device=lm.device)  # rows that run
        self._counted = 0  # the same, where the host can read it

    def advance(self, count: int, length: int, speaking: Collection[int] = ()) -> Tensor:
        """Feed the last tokens of the first `count` rows: hidden states [count, D]."""
        self.tell(count)
        return super().advance(count, length, speaking)

    def tell(self, count: int) -> None:
        """Tell the device how many rows run."""
        if self._counted != count:
            self._counted = count
            self._count.fill_(count)

    def _graphs_of(self, head: OutputHead) -> CudaGraphs:
        self._hidden = self._lm.hidden
        self._lm.capture(self.cache)
        self._count.zero_()  # nothing is computed while it is captured
        self._counted = 0
        return CudaGraphs(
            self._feed,
            lambda count: self._draw_speaking(count, head),
            up_to(TOKENS, len(self._most)),
            (self.positions,),
        )

    def _feed(self, count: int, length: int) -> Tensor:
        rows = self.cache.rows(0, count)
        return self._lm.step(self.ids[:count], self.at[:count], rows, length, self._count)

    def _draw_speaking(self, count: int, head: OutputHead) -> Tensor:
        rows = self._rows(head)
        return _logits_of(head).draw(
            self._lm.hidden[:count], replace(rows, speaking=self._speaking, count=self._count)
        )

    def _draw(self, hidden: Tensor, where: slice | Tensor, head: OutputHead, _most: int) -> Tensor:
        places = (
            torch.arange(where.start, where.stop, device=self.ids.device)
            if isinstance(where, slice)
            else where
        )
        return _logits_of(head).draw(hidden, replace(self._rows(head), places=places))

    def _rows(self, head: OutputHead) -> RowDraws:
        return RowDraws(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            uniforms=self.uniforms,
            ids=self.ids,
            at=self.at,
            drawn=self.drawn,
            end_from=self.end_from,
            end=head.end,
        )


def _logits_of(head: OutputHead) -> FusedHead:
    assert isinstance(head.logits, FusedHead)  # noqa: S101 - the model's only kind
    return head.logits


def batch_for(lm: Decoder, slots: int, positions: int) -> DeviceBatch:
    """The rows of a batch of this decoder."""
    if isinstance(lm, FusedLanguageModel):
        return FusedBatch(lm, slots, positions)
    return DeviceBatch(lm, slots, positions)
