"""Cuts a line whose words take much longer to say than to write.

Sentences are cut by what is written, where 1,234,567 weighs 23 letters; it is said in 65.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from worker.text.line import Line, Replacement
from worker.text.sentences import LEAST_SHARE, MAX_WEIGHT, weigh, weights_of

# A sentence of MAX_WEIGHT takes 14 s; the model was trained on up to 20 to 30.
MOST_SAID = 3 * MAX_WEIGHT // 2
_CLAUSE_END = re.compile(r"(?:[,;:!?…]|\.\.)[\"'”’)\]]* |[，；：、。！？…—–][”’）】」』]*")


def cut(line: Line) -> list[Line]:
    """Give the line in pieces that are each said in at most MOST_SAID, as `weigh` counts letters.

    It is cut behind a clause, else between words, else anywhere that parts no replacement; one
    replacement that is longer by itself stays whole.
    """
    total = weigh(line.said)
    if total <= MOST_SAID:
        return [line]
    places, weights = zip(*_places(line), strict=True)
    bounds = [0, *_cuts(line.text, places, weights, total), len(line.text)]
    pieces = [_piece(line, start, end) for start, end in pairwise(bounds)]
    return [piece for piece in pieces if piece.text]


def _places(line: Line) -> Iterator[tuple[int, int]]:
    """Each place where the text may be cut, with what is said before it, in letters."""
    weight = at = 0
    for one in (*line.replacements, Replacement(len(line.text), len(line.text), "")):
        own = weights_of(line.text[at : one.start])
        for place, before in own.items():
            if place:
                yield at + place, weight + before
        weight += own[one.start - at] + weigh(one.said)
        at = one.end
        if one.said:
            yield at, weight


def _cuts(text: str, places: Sequence[int], weights: Sequence[int], total: int) -> Iterator[int]:
    clauses = {match.end() for match in _CLAUSE_END.finditer(text)}
    pieces = math.ceil(total / MAX_WEIGHT)
    start = 0
    while total - start > MOST_SAID and pieces > 1:
        aim = start + (total - start) / pieces
        low = bisect_left(weights, start + LEAST_SHARE * (aim - start))
        near = range(low, max(low + 1, bisect_right(weights, start + MOST_SAID)))
        near = range(near.start, min(near.stop, len(places)))
        spaces = [i for i in near if text[places[i] - 1] == " "]
        best = min(
            [i for i in near if places[i] in clauses] or spaces or near,
            key=lambda i: abs(weights[i] - aim),
        )
        if places[best] >= len(text):
            return
        yield places[best]
        start, pieces = weights[best], pieces - 1


def _piece(line: Line, start: int, end: int) -> Line:
    """text[start:end] without white space around it, and what of it is said otherwise."""
    text = line.text[start:end]
    start += len(text) - len(text.lstrip())
    own = [r for r in line.replacements if start <= r.start and r.end <= end]
    moved = (replace(r, start=r.start - start, end=r.end - start) for r in own)
    return replace(line, text=text.strip(), replacements=tuple(moved))
