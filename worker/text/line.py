"""A line of speech: one utterance of the model, as it is written and as it is said.

What is written stands in timings, subtitles and segments; what is said is what the model gets. They
differ where something of the text is replaced for the ear alone, such as a number by its words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Replacement:
    """Of a text, text[start:end] is said as `said`."""

    start: int
    end: int
    said: str


def joined(first: Iterable[Replacement], others: Iterable[Replacement]) -> tuple[Replacement, ...]:
    """Replacements of one text together, in order; where two overlap, the one of the `first`."""
    kept = list(first)
    taken = {place for one in kept for place in range(one.start, one.end)}
    kept += [one for one in others if taken.isdisjoint(range(one.start, one.end))]
    return tuple(sorted(kept, key=lambda one: one.start))


@dataclass(frozen=True)
class Line:
    """One utterance: its text as written, what of it is said otherwise, and how it is said.

    `replacements` are in order, do not overlap, and are none of them empty.
    """

    text: str
    replacements: tuple[Replacement, ...] = ()
    speaker: str | None = None  # who says it; None where the job tells no speakers apart
    pause: float | None = None  # seconds of silence before it, in place of the ordinary gap
    semitones: float = 0.0  # by which it is raised when it is spoken
    tempo: float = 1.0  # factor by which it is made faster then

    @property
    def said(self) -> str:
        """The text as the model gets it."""
        parts: list[str] = []
        done = 0
        for one in self.replacements:
            parts += self.text[done : one.start], one.said
            done = one.end
        return "".join([*parts, self.text[done:]])

    def silence(self, gap: float, *, first: bool) -> float:
        """Seconds of silence before it, where `gap` parts two lines; `first`: nothing is before."""
        if self.pause is not None:
            return self.pause
        return 0.0 if first else gap
