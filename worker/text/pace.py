"""How long a text takes to say, by its syllables and letters, at an ordinary pace.

Nobody can say it to the word: a number has several readings, capitals may be a word or letters that
are spelled. So there are two answers, the least and the most that it may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from worker.text.spoken_forms import readings
from worker.text.words import language_of

# At some five syllables a second, which the model calls moderate; python -m bench.speech_gate has
# how far a voice's sentences lie from it.
START_SECONDS = 0.1
SYLLABLE_SECONDS = 0.1
LETTER_SECONDS = 0.03
CLAUSE_SECONDS = 0.15  # a pause at a comma, which may be made or not

_HAN_LETTERS = 3
_SPELLED_LETTERS = 2.5  # a letter that is spelled sounds as one of so many: "ess", "double you"
_LETTERS_OF_A_SYLLABLE = 2.7  # in scripts whose vowels are not known here
_MARK_SYLLABLES = 2  # of a mark that may be said or not: "slash", "underscore"
_MOST_SPELLED = 6  # letters of a word in capitals that may be spelled
_VOWEL = "aeiouyàáâäãåæèéêëìíîïòóôöõøœùúûüýÿ"
_VOWELS = regex.compile(f"[{_VOWEL}]+")
_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}]")
_LATIN = regex.compile(r"[\p{Latin}']+")
# Maybe spelled, or short for a longer word: NASA, IBM, Mr, km.
_SPELLED = regex.compile(
    rf"\b(?:\p{{Lu}}{{2,{_MOST_SPELLED}}}|[^\W\d_{_VOWEL}{_VOWEL.upper()}]{{1,3}})\b"
)
_CLAUSE = regex.compile(r"[,;:…—–，；：、。！？.!?](?=.*\w)")
# Quotes, brackets and the stops after a word are not said.
_SAID_MARK = regex.compile(r"[@#&+=%/\\_*^~|<>]|\p{S}|(?<=\w)[.\-:](?=\w)")


@dataclass(frozen=True)
class Pace:
    """The seconds that a text may take at an ordinary pace, pauses of its own included.

    `pauses` is how many it may have: at each mark inside that may make one.
    """

    least: float
    most: float
    pauses: int


def pace_of(text: str) -> Pace:
    """How long the text may take, in whatever language it is."""
    language = language_of(text)
    least = most = START_SECONDS
    for word in text.split():
        seconds = [_seconds(reading) for reading in readings(word, language)] or [0.0]
        least += min(seconds)
        most += max(seconds) + _maybe(word)
    pauses = len(_CLAUSE.findall(text))
    return Pace(least, most + CLAUSE_SECONDS * pauses, pauses)


def _seconds(reading: str) -> float:
    """Of a reading in words: letters and apostrophes, single spaces."""
    syllables, letters = 0.0, 0
    for word in reading.split():
        wide = len(_WIDE.findall(word))
        rest = _WIDE.sub("", word).lower()
        syllables += wide + (_syllables(rest) if rest else 0)
        letters += _HAN_LETTERS * wide + (len(rest) + 1 if rest else 0)
    return SYLLABLE_SECONDS * syllables + LETTER_SECONDS * letters


def _syllables(word: str) -> float:
    """About how many syllables a word has, by its vowels; at least one."""
    if not _LATIN.fullmatch(word):
        return max(1.0, len(word) / _LETTERS_OF_A_SYLLABLE)
    groups = len(_VOWELS.findall(word))
    silent = groups > 1 and word.endswith("e") and not word.endswith("le")
    return max(1, groups - silent)


def _maybe(word: str) -> float:
    """Seconds more that a written word may take: what may be spelled, marks that may be said."""
    spelled = sum(len(match.group()) for match in _SPELLED.finditer(word))
    marks = len(_SAID_MARK.findall(word))
    syllables = spelled + _MARK_SYLLABLES * marks
    letters = _SPELLED_LETTERS * syllables
    return SYLLABLE_SECONDS * syllables + LETTER_SECONDS * letters
