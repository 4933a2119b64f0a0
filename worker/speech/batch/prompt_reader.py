"""Reads the prompts of sequences that joined: so much between two steps as the budget lets.

Where a decoder reads prompts in parts, a prompt's last token is left to the step, which feeds it
and draws beside the others: so a join needs no draw of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from worker.speech.batch.admission import PrefillBudget
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.places import Places
from worker.speech.batch.sequence import TokenSequence
from worker.speech.lm.interface import Decoder


@dataclass(frozen=True)
class Started:
    """Sequences whose prompts have been read: from now on they run, at places from `first` on."""

    sequences: list[TokenSequence]
    first: int
    hidden: Tensor | None  # [n, D] after their prompts; None: their last tokens are yet to be fed


class PromptReader:
    """Reads prompts by a budget."""

    def __init__(self, lm: Decoder, budget: PrefillBudget) -> None:
        self._lm = lm
        self.budget = budget

    def left(self, sequence: TokenSequence) -> int:
        """How many tokens of its prompt are to be read before it runs."""
        return sequence.prompt_length - sequence.read - self.budget.in_parts

    def read(self, places: Places, batch: DeviceBatch) -> Started:
        """Read on, the first prompts first, and let those run that are read to the end."""
        first, idle = len(places.running), not places.running
        short = self._start(places, batch)  # prompts of a single token, which is left to the step
        unread = list(takewhile(self.left, places.reading))
        if not unread:
            return Started(short, first, None)
        counts = self.budget.split([self.left(one) for one in unread], idle=idle)
        unread = unread[: len(counts)]
        parts = [one.prompt_part(count) for one, count in zip(unread, counts, strict=True)]
        batch.cache.flush()
        rows = batch.cache.rows(len(places.running), len(parts))
        hidden = self._lm.prefill(parts, rows, [one.read for one in unread])
        for one, count in zip(unread, counts, strict=True):
            one.read += count
        started = short + self._start(places, batch)
        return Started(started, first, None if self.budget.in_parts else hidden)

    def _start(self, places: Places, batch: DeviceBatch) -> list[TokenSequence]:
        """Let those run that have been read, the first in line."""
        started = list(takewhile(lambda one: not self.left(one), places.reading))
        for place, one in enumerate(started, len(places.running)):
            batch.set(
                place,
                one.request.name,
                one.request.limit,
                fed=one.prompt_length,
                drawn=one.drawn,
                end_from=one.grammar.end_from,
                how=one.sampling,
                last=one.last_token,
            )
        places.start(len(started))
        return started
