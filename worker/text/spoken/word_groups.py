"""The words of a sentence as an aligner looks for them: each with what may be said for it.

Words that are said together are a group: "$14.8" and "billion" are said as "fourteen point eight"
and "billion dollars", so that each written word keeps a time of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.text.line import Replacement
from worker.text.spoken.passage import Passage, Reading
from worker.text.spoken.passages import passages
from worker.text.spoken_forms import readings
from worker.text.words import Word, has_han, split_words

MAX_READINGS = 8  # of one group; the aligner tries each of them


@dataclass(frozen=True)
class WordGroup:
    """`count` words side by side, the language that they are said in, and their readings.

    Each reading has a string for each word, which is empty where nothing is said for it. Without
    readings nothing of the group is said.
    """

    readings: tuple[Reading, ...]
    language: str = "en"
    count: int = 1

    @staticmethod
    def of(*readings: str, language: str = "en") -> WordGroup:
        """One word with these readings."""
        return WordGroup(tuple((reading,) for reading in readings), language)


@dataclass(frozen=True)
class _Edit:
    """Of a word, word[start:end] is said as `said`."""

    start: int
    end: int
    said: str


def word_groups(
    text: str, language: str, replacements: Sequence[Replacement] = ()
) -> tuple[list[Word], list[WordGroup]]:
    """Give the words of a sentence in 'en' or 'zh', and the groups that they are in, in order.

    What `replacements` say was said, and nothing else; the rest may be said in any of its readings.
    """
    words = split_words(text)
    said = {Passage(((r.start, r.end),), ((r.said,),)) for r in replacements}
    free = [p for p in passages(text, language) if not _overlaps(p, replacements)]
    groups: list[WordGroup] = []
    for first, last, members in _runs(words, [*said, *free]):
        group = words[first:last]
        if members:
            fixed = not said.isdisjoint(members)
            groups.append(_group(group, members, language, fixed=fixed))
        else:
            groups.append(_lone(group[0].text, language))
    return words, groups


def _overlaps(passage: Passage, replacements: Sequence[Replacement]) -> bool:
    return any(r.start < passage.end and passage.start < r.end for r in replacements)


def _runs(
    words: Sequence[Word], found: Sequence[Passage]
) -> Iterator[tuple[int, int, list[Passage]]]:
    """Divide the words into [first:last] by what touches them; a word touched by nothing is alone.

    The passages of a run are those that touch it.
    """
    waiting = sorted(found, key=lambda passage: passage.start)
    at = index = 0
    while index < len(words):
        first, end, members = index, words[index].end, []
        while at < len(waiting) and waiting[at].start < end:
            passage = waiting[at]
            at += 1
            members.append(passage)
            while index + 1 < len(words) and words[index + 1].start < passage.end:
                index += 1
                end = words[index].end
        index += 1
        yield first, index, members


def _lone(word: str, language: str) -> WordGroup:
    """A word that no passage touches, in the language of its script where it has letters."""
    if any(char.isalpha() for char in word):
        language = "zh" if has_han(word) else "en"
    return WordGroup.of(*readings(word, language), language=language)


def _group(
    words: Sequence[Word], members: Sequence[Passage], language: str, *, fixed: bool
) -> WordGroup:
    """Words that passages touch: in the passages' readings, then in each word's own."""
    most = max(len(passage.readings) for passage in members)
    said = [_said(words, members, attempt) for attempt in range(most)]
    spoken = [
        tuple(_first(one, "zh" if has_han(one) else "en") for one in reading) for reading in said
    ]
    in_han = any(has_han(part) for reading in spoken[:1] for part in reading)
    own_language = "zh" if in_han else "en" if any(map(str.strip, spoken[0])) else language
    if not fixed:
        spoken += [
            reading
            for reading in _own(words, own_language)
            if any(has_han(part) for part in reading) == in_han
        ]
    told = [reading for reading in dict.fromkeys(spoken) if any(reading)]
    return WordGroup(tuple(told[:MAX_READINGS]), own_language, len(words))


def _own(words: Sequence[Word], language: str) -> list[Reading]:
    """Read each word by itself."""
    each = [readings(word.text, language) or ("",) for word in words]
    most = max(map(len, each))
    return [tuple(one[min(i, len(one) - 1)] for one in each) for i in range(most)]


def _first(said: str, language: str) -> str:
    return next(iter(readings(said, language)), "")


def _said(words: Sequence[Word], members: Sequence[Passage], attempt: int) -> list[str]:
    """What is said for each word, where each passage has this reading, or its last one."""
    edits: list[list[_Edit]] = [[] for _ in words]
    for passage in members:
        reading = passage.readings[min(attempt, len(passage.readings) - 1)]
        for span, said in zip(passage.spans, reading, strict=True):
            for index, share in _shares(words, span, said):
                word = words[index]
                start, end = max(span[0], word.start), min(span[1], word.end)
                edits[index].append(_Edit(start - word.start, end - word.start, share))
    return [_edited(word.text, own) for word, own in zip(words, edits, strict=True)]


def _edited(word: str, edits: Sequence[_Edit]) -> str:
    parts: list[str] = []
    done = 0
    for edit in edits:
        parts += word[done : edit.start], edit.said
        done = edit.end
    return "".join([*parts, word[done:]])


def _shares(words: Sequence[Word], span: tuple[int, int], said: str) -> list[tuple[int, str]]:
    """Divide what is said for a span among the words that it covers, by their letters."""
    touched = [i for i, word in enumerate(words) if word.start < span[1] and span[0] < word.end]
    letters = [
        sum(
            char.isalnum()
            for at, char in enumerate(words[i].text, words[i].start)
            if span[0] <= at < span[1]
        )
        for i in touched
    ]
    if len(touched) == 1 or not any(letters):
        return [(i, said if i == touched[0] else "") for i in touched]
    if letters.count(0) == len(letters) - 1:
        return [(i, said if own else "") for i, own in zip(touched, letters, strict=True)]
    spaced = not has_han(said)
    parts = said.split() if spaced else list(said)
    shares: list[tuple[int, str]] = []
    total = done = 0
    for i, own in zip(touched, letters, strict=True):
        total += own
        upto = math.floor(len(parts) * total / sum(letters) + 0.5)
        shares.append((i, (" " if spaced else "").join(parts[done:upto])))
        done = upto
    return shares
