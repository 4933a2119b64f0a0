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


def joined(
    text: str, first: Iterable[Replacement], others: Iterable[Replacement]
) -> tuple[Replacement, ...]:
    """Replacements of one text together, in order; where two overlap, the one of the `first`.

    But where the other says the word as it is written, with more beside it, that stays: of "$14.8
    billion" the last word is said as "billion dollars".
    """
    kept = {one.start: one for one in first}
    taken = {place: one for one in kept.values() for place in range(one.start, one.end)}
    for other in others:
        over = {taken[place] for place in range(other.start, other.end) if place in taken}
        if not over:
            kept[other.start] = other
        elif len(over) == 1:
            one = over.pop()
            kept[one.start] = _within(text, one, other)
    return tuple(sorted(kept.values(), key=lambda one: one.start))


def _within(text: str, one: Replacement, other: Replacement) -> Replacement:
    """The `one` with what the other, of the same place, says beside the word as it is written."""
    words, word = other.said.split(), text[one.start : one.end]
    if (one.start, one.end) != (other.start, other.end) or words.count(word) != 1:
        return one
    said = " ".join(one.said if each == word else each for each in words)
    return Replacement(one.start, one.end, said)


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
