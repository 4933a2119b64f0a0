"""What an answer may be: which token ids at each step, and where it may end.

It has two forms:

    Grammar           as prompt.py makes it: a set of ids for each step
    CompiledGrammar   as the batch runs it: what need not be drawn, and few sets for all steps
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Grammar:
    """The token ids allowed at each step of an answer; the last set holds for all later steps.

    With an `end` the answer goes on until that token is drawn, without one it has exactly
    len(steps) tokens.
    """

    steps: tuple[frozenset[int], ...]
    end: int | None = None


@dataclass(frozen=True)
class CompiledGrammar:
    """A grammar with its opening apart, and its steps shared out among few sets of tokens.

    A step that allows what the last one does, but for the end, has the last one's set, and the end
    is struck out before `end_from`: so speech has one set from its first token on, and one output
    head (batch/output_head.py).
    """

    opening: tuple[int, ...]  # the first tokens, as far as there is no choice
    allowed: tuple[frozenset[int], ...]  # by step; the last holds on
    end: int | None
    end_from: int  # the first step at which the end may be drawn
    length: float  # tokens of the answer; infinite where it has an end

    @classmethod
    def of(cls, grammar: Grammar) -> CompiledGrammar:
        """Compile a grammar."""
        steps, end = grammar.steps, grammar.end
        opening: list[int] = []
        # The last step holds for all later ones: with an end, even a single token is drawn there.
        for step in steps if end is None else steps[:-1]:
            if len(step) > 1:
                break
            opening += step
        may_end = (number for number, step in enumerate(steps) if end in step)
        return cls(
            opening=tuple(opening),
            allowed=tuple(
                steps[-1] if end is not None and step | {end} == steps[-1] else step
                for step in steps
            ),
            end=end,
            end_from=next(may_end, len(steps)),
            length=len(steps) if end is None else float("inf"),
        )

    def allowed_at(self, step: int) -> frozenset[int]:
        """The tokens of this step, the end among them where it may come later."""
        return self.allowed[min(step, len(self.allowed) - 1)]

    @cached_property
    def settled(self) -> int:
        """The step from which on the same tokens are allowed at each."""
        step = len(self.allowed) - 1
        while step > 0 and self.allowed[step - 1] == self.allowed[-1]:
            step -= 1
        return step
