"""Output heads: the output matrix cut to the tokens that a grammar allows, few for all its steps.

While the model speaks, a head has 8,193 of 166,000 rows: a token that is not allowed is not even
computed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worker.speech.device import on_device
from worker.speech.grammar import CompiledGrammar, Grammar
from worker.speech.lm.interface import Decoder, Logits

KEPT = 64  # grammars, and heads, that are kept for the next job


@dataclass(frozen=True)
class OutputHead:
    """The output matrix cut to some tokens, in order of their ids."""

    ids: Tensor  # long [n]
    logits: Logits
    end: int | None  # place of the end token


class OutputHeads:
    """The compiled grammars and the output heads of one decoder, those last used kept."""

    def __init__(self, lm: Decoder) -> None:
        self._lm = lm
        self._grammars: OrderedDict[Grammar, CompiledGrammar] = OrderedDict()
        self._heads: OrderedDict[tuple[frozenset[int], int | None], OutputHead] = OrderedDict()
        self._pinned: dict[tuple[frozenset[int], int | None], OutputHead] = {}

    def compiled(self, grammar: Grammar) -> CompiledGrammar:
        """The grammar compiled. Equal sets of those kept are one object, quick to compare."""
        compiled = self._grammars.pop(grammar, None) or self._shared(CompiledGrammar.of(grammar))
        self._grammars[grammar] = compiled
        while len(self._grammars) > KEPT:
            self._grammars.popitem(last=False)
        return compiled

    def get(self, allowed: frozenset[int], end: int | None) -> OutputHead:
        """The head of these tokens; `end` is the one that ends an answer, where one does."""
        pinned = self._pinned.get((allowed, end))
        if pinned is not None:
            return pinned
        head = self._heads.pop((allowed, end), None) or self._cut(allowed, end)
        self._heads[allowed, end] = head
        while len(self._heads) > KEPT:
            self._heads.popitem(last=False)
        return head

    def pin(self, allowed: frozenset[int], end: int | None) -> OutputHead:
        """The head of these tokens, which is kept for good."""
        head = self._pinned[allowed, end] = self.get(allowed, end)
        return head

    def _cut(self, allowed: frozenset[int], end: int | None) -> OutputHead:
        ids = sorted(allowed)
        place = ids.index(end) if end in allowed else None
        tokens = torch.tensor(ids)
        return OutputHead(on_device(tokens, self._lm.device), self._lm.head(tokens), place)

    def _shared(self, new: CompiledGrammar) -> CompiledGrammar:
        known = {allowed: allowed for kept in self._grammars.values() for allowed in kept.allowed}
        return replace(
            new, allowed=tuple(known.setdefault(allowed, allowed) for allowed in new.allowed)
        )
