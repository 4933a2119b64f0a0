"""Judges whether a sentence was said, from the times and scores of its words.

A forced alignment finds a place for every word, also for one that was not said: squeezed between
its neighbours, with a low score. And what was said or held beyond the text shows as a word that
lasts too long, or as time that belongs to no word. The limits lie well outside of what is normal:
a good sentence that is spoken again costs as much as one that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.text.words import has_han
from worker.timing.word_timing import SentenceSpan, WordTiming

# Fast speech has some 15 letters a second; a forced place for a word not said has 25 to 50.
SQUEEZED_SECONDS = 0.03  # a letter
SQUEEZED_SCORE = 0.35
SQUEEZED_LETTERS = 6  # a word of fewer letters ("the", "would") is often swallowed in good speech
SQUEEZED_PACE = 0.6  # of the time that a letter takes in this sentence: who is fast says all fast
STRETCHED_SECONDS = 1.0  # a word may last, and as much more for each letter as the next line says
STRETCHED_LETTER = 0.15
SHORTEST_LETTER = 0.02  # seconds; a sentence with less for each letter cannot be all of it
WEAK_SCORE = 0.25  # the mean of all words; another text than the one spoken has less
IDLE_SECONDS = 1.5  # between two words, or before or after all of them
HAN_LETTERS = 3  # that a Chinese character counts as


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a spoken sentence; nothing where `faults` is empty.

    `seconds` is how much of it is wrong: of two bad attempts the one with less is the better.
    `again` is False where no other attempt could be better.
    """

    faults: tuple[str, ...]
    seconds: float
    again: bool = True

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def __add__(self, other: Verdict) -> Verdict:
        """Both verdicts on one take."""
        return Verdict(
            self.faults + other.faults, self.seconds + other.seconds, self.again and other.again
        )


def judge(words: Sequence[WordTiming], sentence: SentenceSpan, tempo: float = 1.0) -> Verdict:
    """Judge a sentence by its words, which must be all of it, in order.

    `tempo` is the factor by which the speech was made faster after the model had spoken it. Words
    whose times are only estimated say nothing about themselves.
    """
    letters = sum(map(_letters, words))
    duration = (sentence.end - sentence.start) * tempo
    if duration < SHORTEST_LETTER * letters:
        return Verdict(
            (f"{duration:.1f} s are too short for the text",), STRETCHED_LETTER * letters
        )
    faults: list[str] = []
    wrong = 0.0
    edge = sentence.start
    squeezed = min(SQUEEZED_SECONDS, SQUEEZED_PACE * _letter_seconds(words) * tempo)
    for word in words:
        if word.estimated:
            continue
        seconds = (word.end - word.start) * tempo
        length = _letters(word)
        most = STRETCHED_SECONDS + STRETCHED_LETTER * length
        if _is_squeezed(word, length, seconds, squeezed):
            faults.append(f"{word.word!r} seems not to be said")
            wrong += STRETCHED_LETTER * length
        elif seconds > most:
            faults.append(f"{word.word!r} lasts {seconds:.1f} s")
            wrong += seconds - most
        wrong += _idle(faults, (word.start - edge) * tempo, f"before {word.word!r}")
        edge = word.end
    if edge > sentence.start or not words:
        wrong += _idle(faults, (sentence.end - edge) * tempo, "at the end")
    scores = [word.score for word in words if word.score is not None]
    if scores and (mean := sum(scores) / len(scores)) < WEAK_SCORE:
        faults.append(f"the words hardly fit the sound (mean score {mean:.2f})")
        wrong += STRETCHED_LETTER * letters * (1 - mean)
    return Verdict(tuple(faults), wrong)


def _letters(word: WordTiming) -> int:
    """Letters of a word as it was said, a Chinese character counting as the syllable that it is.

    1,234,567 has seven digits and is said in 65 letters. A letter said by its name, the A of A1B2,
    is a syllable too.
    """
    if word.said is None:
        return _weight(word.word)
    parts = word.said.split()
    named = sum(len(part) == 1 and part.isascii() for part in parts) if len(parts) > 1 else 0
    return _weight(word.said) + (HAN_LETTERS - 1) * named


def _weight(text: str) -> int:
    return sum(HAN_LETTERS if has_han(char) else char.isalnum() for char in text)


def _letter_seconds(words: Sequence[WordTiming]) -> float:
    """How long a letter of the sentence lasts, over all words that were measured."""
    measured = [word for word in words if not word.estimated]
    letters = sum(map(_letters, measured))
    return sum(word.end - word.start for word in measured) / max(letters, 1)


def _is_squeezed(word: WordTiming, letters: int, seconds: float, squeezed: float) -> bool:
    """Whether a word has less than `squeezed` seconds for each letter, and fits badly."""
    score = 1.0 if word.score is None else word.score
    return letters >= SQUEEZED_LETTERS and score < SQUEEZED_SCORE and seconds < squeezed * letters


def _idle(faults: list[str], seconds: float, where: str) -> float:
    """Note time that belongs to no word, and give how much of it is too much."""
    if seconds <= IDLE_SECONDS:
        return 0.0
    faults.append(f"{seconds:.1f} s without a word {where}")
    return seconds - IDLE_SECONDS
