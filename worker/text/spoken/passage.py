"""A passage: what is written in one or several places of a text and said as a whole.

"$14.8 billion" is two written words and said as "fourteen point eight" and "billion dollars": what
the first one's sign means is said with the second one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Span = tuple[int, int]  # text[start:end]
Reading = tuple[str, ...]  # what is said for each of a passage's spans; empty where nothing is


@dataclass(frozen=True)
class Passage:
    """Places of a text that are said together, and how: likeliest first.

    `spans` are in order and do not overlap; each of `readings` has as many parts. `sure` says
    whether the first reading is meant, by the form of what is written or by what stands beside it.
    """

    spans: tuple[Span, ...]
    readings: tuple[Reading, ...]
    sure: bool = True

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.spans[-1][1]


class Rule(NamedTuple):
    """What a pattern finds, as a passage; None where it is none after all."""

    pattern: re.Pattern[str]
    read: Callable[[re.Match[str]], Passage | None]


def whole(match: re.Match[str], readings: Iterable[str], *, sure: bool = True) -> Passage:
    """Read all that was matched as one."""
    return Passage((match.span(),), tuple((reading,) for reading in readings), sure)


def in_places(spans: Sequence[Span], readings: Iterable[Reading], *, sure: bool = True) -> Passage:
    """Read several places together."""
    return Passage(tuple(spans), tuple(readings), sure)


def find(text: str, rules: Iterable[Rule], taken: bytearray) -> list[Passage]:
    """The passages of a text, in no order: an earlier rule's go before a later one's.

    `taken` has a 1 for each character that is not free, and gets those of what is found.
    """
    found: list[Passage] = []
    for rule in rules:
        for match in rule.pattern.finditer(text):
            if taken.find(1, *match.span()) >= 0:
                continue
            passage = rule.read(match)
            if passage is None or taken.find(1, passage.start, passage.end) >= 0:
                continue
            found.append(passage)
            taken[passage.start : passage.end] = b"\1" * (passage.end - passage.start)
    return found
