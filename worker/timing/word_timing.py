"""Word timings: the aligner gives them, subtitles and answers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.text.line import Replacement


@dataclass(frozen=True)
class SentenceSpan:
    """A sentence and where it lies in the audio, in seconds.

    `replacements` are what of its text was said otherwise than it is written; `speaker` is who says
    it, None where no speakers are told apart.
    """

    text: str
    start: float
    end: float
    replacements: tuple[Replacement, ...] = ()
    speaker: str | None = None


@dataclass(frozen=True)
class WordTiming:
    """The time at which a word, as written, is spoken.

    `start` and `end` are seconds into the audio, inside of the word's sentence, whose index is
    `sentence`. `score` is between 0 and 1, None where the word itself was not measured; such a
    word's times come from what surrounds it, and `estimated` says so. `said` is the reading that it
    was found by, in letters: "nineteen eighty seven" for 1987; None where it was not looked for.
    """

    word: str
    start: float
    end: float
    score: float | None
    sentence: int
    estimated: bool
    said: str | None = None


def at_tempo(words: Sequence[WordTiming], tempo: float) -> list[WordTiming]:
    """The words of speech that was made faster by the factor `tempo` after they were timed."""
    return [replace(word, start=word.start / tempo, end=word.end / tempo) for word in words]


def shift_to_whole(
    words: Sequence[Sequence[WordTiming]], sentences: Sequence[SentenceSpan]
) -> list[WordTiming]:
    """The words of all sentences, timed from the start of the whole audio.

    `words` has those of each of `sentences`, timed from the start of their own sentence.
    """
    return [
        replace(word, start=span.start + word.start, end=span.start + word.end, sentence=index)
        for index, (spoken, span) in enumerate(zip(words, sentences, strict=True))
        for word in spoken
    ]
