"""The output matrix cut to what a grammar allows: few heads for all its steps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worker.speech.device import on_device
from worker.speech.grammar import Grammar
from worker.speech.lm.interface import Decoder, Logits

KEPT = 64  # plans, and heads, that are kept for the next job


@dataclass(frozen=True)
class GrammarRoute:
    """A plan with its steps shared out among few heads.

    A step that allows what the last one does, but for the end, uses the last one's head, with the
    end struck out: so speech has one head from its first token on.
    """

    forced: tuple[int, ...]  # the opening tokens, where there is no choice
    cuts: tuple[frozenset[int], ...]  # by step; the last holds on
    end: int | None
    end_from: int  # the first step at which the end may be drawn
    length: float  # tokens of the answer; infinite where it has an end

    @classmethod
    def of(cls, plan: Grammar) -> GrammarRoute:
        """Of a plan."""
        last = plan.steps[-1]
        cuts = tuple(
            last if plan.end is not None and step | {plan.end} == last else step
            for step in plan.steps
        )
        forced: list[int] = []
        for step in plan.steps if plan.end is None else plan.steps[:-1]:
            if len(step) > 1:
                break
            forced += step
        allowed = (i for i, step in enumerate(plan.steps) if plan.end in step)
        return cls(
            forced=tuple(forced),
            cuts=cuts,
            end=plan.end,
            end_from=next(allowed, len(plan.steps)),
            length=len(plan.steps) if plan.end is None else float("inf"),
        )

    def at(self, step: int) -> frozenset[int]:
        """The cut at this step."""
        return self.cuts[min(step, len(self.cuts) - 1)]


@dataclass(frozen=True)
class OutputHead:
    """The output matrix cut to some tokens, in order of their ids."""

    ids: Tensor  # long [n]
    logits: Logits
    end: int | None  # place of the end token


class OutputHeads:
    """Routes and heads of one decoder, the last ones kept."""

    def __init__(self, lm: Decoder) -> None:
        self._lm = lm
        self._routes: OrderedDict[Grammar, GrammarRoute] = OrderedDict()
        self._heads: OrderedDict[tuple[frozenset[int], int | None], OutputHead] = OrderedDict()
        self._lasting: dict[tuple[frozenset[int], int | None], OutputHead] = {}

    def find(self, plan: Grammar) -> GrammarRoute:
        """The plan's route. Equal cuts of routes that are kept are one object, quick to compare."""
        route = self._routes.pop(plan, None) or self._shared(GrammarRoute.of(plan))
        self._routes[plan] = route
        while len(self._routes) > KEPT:
            self._routes.popitem(last=False)
        return route

    def head(self, cut: frozenset[int], end: int | None) -> OutputHead:
        """The head of a cut; `end` is the token that ends an answer, where one does."""
        lasting = self._lasting.get((cut, end))
        if lasting is not None:
            return lasting
        head = self._heads.pop((cut, end), None) or self._made(cut, end)
        self._heads[cut, end] = head
        while len(self._heads) > KEPT:
            self._heads.popitem(last=False)
        return head

    def keep(self, cut: frozenset[int], end: int | None) -> OutputHead:
        """The head of a cut, which is never let go."""
        head = self._lasting[cut, end] = self.head(cut, end)
        return head

    def _made(self, cut: frozenset[int], end: int | None) -> OutputHead:
        ids = sorted(cut)
        place = ids.index(end) if end in cut else None
        tokens = torch.tensor(ids)
        return OutputHead(on_device(tokens, self._lm.device), self._lm.head(tokens), place)

    def _shared(self, route: GrammarRoute) -> GrammarRoute:
        known = {cut: cut for other in self._routes.values() for cut in other.cuts}
        return replace(route, cuts=tuple(known.setdefault(cut, cut) for cut in route.cuts))
