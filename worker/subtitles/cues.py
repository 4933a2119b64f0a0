"""Cues: the words that stand on the screen together, their times and lines.

The best division of all words into cues is searched for (dynamic programming over the places
where a cue may end), by a cost that puts into numbers what subtitlers agree on: end a cue at a
sentence or clause, or in a pause; no word alone; not longer than can be read, not shown too long.
Times are whole centiseconds, the unit of ASS, so that every file format says the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import regex

from worker.subtitles.style import SubtitleStyle
from worker.timing.word_timing import SentenceSpan, WordTiming

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_LINES = 2
READING_SPEED = 20.0  # columns a second that most adults read; Chinese characters are two each
MIN_SECONDS = 1.0  # that a cue stays where the next one leaves room
MAX_SECONDS = 7.0  # that it stays at most, where it has more than one word
LONG_PAUSE = 1.0  # seconds without a word, over which no cue should stay

# Costs; a cue costs 1.
BRIDGED_SENTENCE = 1.5  # one that ends within a cue
BRIDGED_SPEAKER = 1000.0  # one whose turn ends within a cue: that is never the cheapest
BRIDGED_PAUSE = 10.0  # a long one within a cue
BROKEN_CLAUSE = 3.0  # a cue that ends within a clause
CLAUSE = 0.4  # one that ends with it
LONE_WORD = 4.0  # a cue of one word

_SENTENCE_END = regex.compile(r"[.!?…。！？][\p{Pe}\p{Pf}\"'”’]*$")
_CLAUSE_END = regex.compile(r"[,;:，；：、—–)）]['\"”’]*$")
_NOTHING = frozenset({"Mn", "Me", "Cf", "Cc"})  # categories of characters that take no column


@dataclass(frozen=True)
class CueWord:
    """A word, or a part of one that is wider than a line, as it stands in a cue."""

    text: str
    spaced: bool  # whether a space stands before it, unless it begins a line
    start: int  # centiseconds
    end: int
    speaker: str | None = None
    begins: bool = False  # whether its speaker's turn begins here


@dataclass(frozen=True)
class Cue:
    """One or two lines of words, shown from `start` until `end`, in centiseconds.

    One speaker says them all.
    """

    start: int
    end: int
    lines: tuple[tuple[CueWord, ...], ...]

    @property
    def speaker(self) -> str | None:
        """Who says it; None where no speakers are told apart."""
        return self.lines[0][0].speaker

    @property
    def label(self) -> str:
        """What says who speaks, in a line of text, where that changes; else nothing."""
        first = self.lines[0][0]
        return f"{first.speaker}: " if first.begins else ""


def columns(text: str) -> int:
    """Columns that a text takes: 2 for an East Asian wide character, 0 for a combining one."""
    return sum(
        0
        if unicodedata.category(char) in _NOTHING
        else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cues(
    words: Sequence[WordTiming], sentences: Sequence[SentenceSpan], style: SubtitleStyle
) -> list[Cue]:
    """Divide words, as the aligner gives them for the sentences, into cues.

    Every word is shown once, in order. Cues do not overlap and last 0.01 s or more.
    """
    limit = style.columns
    parts = [part for word in _with_spaces(words, sentences) for part in _narrow(word, limit)]
    if not parts:
        return []
    shown = [part.word for part in parts]
    bounds = [0, *_cue_ends(shown, [part.bridge for part in parts], limit)]
    drafts = [shown[start:end] for start, end in pairwise(bounds)]
    return _timed(drafts, limit, round(sentences[-1].end * 100))


@dataclass(frozen=True)
class _Part:
    word: CueWord
    bridge: float  # the cost of showing it with the next one, for what ends between them


def _with_spaces(words: Sequence[WordTiming], sentences: Sequence[SentenceSpan]) -> list[_Part]:
    """Words as they stand in their sentences' texts: with a space before them or without."""
    parts: list[_Part] = []
    at = 0
    for i, word in enumerate(words):
        first = i == 0 or words[i - 1].sentence != word.sentence
        begin = sentences[word.sentence].text.index(word.word, 0 if first else at)
        if first and i:  # sentences that were parted where no space stood are put together so
            spaced = not _is_wide(word.word[0]) or not _is_wide(words[i - 1].word[-1])
        else:
            spaced = begin > at
        at = begin + len(word.word)
        speaker = sentences[word.sentence].speaker
        before = sentences[words[i - 1].sentence].speaker if i else None
        start, end = round(word.start * 100), round(word.end * 100)
        shown = CueWord(word.word, spaced, start, end, speaker, speaker != before)
        following = words[i + 1].sentence if i + 1 < len(words) else None
        parts.append(_Part(shown, _end_cost(sentences, word.sentence, following)))
    return parts


def _end_cost(sentences: Sequence[SentenceSpan], sentence: int, following: int | None) -> float:
    """The cost of bridging what ends between words of these sentences."""
    if sentence == following:
        return 0.0
    if following is None or sentences[sentence].speaker == sentences[following].speaker:
        return BRIDGED_SENTENCE
    return BRIDGED_SPEAKER


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def _narrow(part: _Part, limit: int) -> list[_Part]:
    """The word in parts that fit into a line; its time is shared by their columns."""
    word = part.word
    if columns(word.text) <= limit:
        return [part]
    lines: list[list[str]] = [[]]
    widths = [0]
    for cluster in regex.findall(r"\X", word.text):
        wide = columns(cluster)
        if lines[-1] and widths[-1] + wide > limit:
            lines.append([])
            widths.append(0)
        lines[-1].append(cluster)
        widths[-1] += wide
    texts = ["".join(line) for line in lines]
    shares = [0, *accumulate(widths)]
    edges = [word.start + (word.end - word.start) * s // max(shares[-1], 1) for s in shares]
    return [
        _Part(
            CueWord(
                text,
                word.spaced and not i,
                edges[i],
                edges[i + 1],
                word.speaker,
                word.begins and not i,
            ),
            part.bridge if i == len(texts) - 1 else 0.0,
        )
        for i, text in enumerate(texts)
    ]


def _cue_ends(words: Sequence[CueWord], ends: Sequence[float], limit: int) -> list[int]:
    """The end of each cue: indices behind its last word, the last one len(words)."""
    until = np.array([0, *accumulate(_width(word) for word in words)])
    line_end = _line_ends(words, until.tolist(), limit)
    bridges = np.array([0.0, *accumulate(_bridge_cost(words, ends, i) for i in range(len(words)))])
    starts = np.array([word.start for word in words])
    unfilled = _unfilled_costs(limit)
    best = np.zeros(len(words) + 1)  # cost of the cheapest division of words[:end]
    origin = [0] * (len(words) + 1)
    first = 0
    for end in range(1, len(words) + 1):
        while line_end[line_end[first]] < end:  # more than MAX_LINES lines
            first += 1
        possible = slice(first, end)  # where the cue that ends here may start
        after = _break_cost(words, ends, end)
        cost = best[possible] + after + bridges[end - 1] - bridges[possible]
        cost += _cue_costs(words, starts[possible], end, until[end] - until[possible], unfilled)
        origin[end] = end - 1 - int(cost[::-1].argmin())  # of equal ones the shortest cue
        best[end] = cost[origin[end] - first]
    cuts = [len(words)]
    while origin[cuts[-1]]:
        cuts.append(origin[cuts[-1]])
    return cuts[::-1]


def _width(word: CueWord) -> int:
    """Columns of a word within a line; invisible ones count too, so that a line has an end.

    Where a turn begins there is room for its speaker's name, whatever shows that.
    """
    name = columns(f"{word.speaker}: ") if word.begins else 0
    return name + max(columns(word.text), 1) + word.spaced


def _line_ends(words: Sequence[CueWord], until: Sequence[int], limit: int) -> list[int]:
    """How far a line may go that begins with each word, and with the end."""
    ends = []
    end = 0
    for start, word in enumerate(words):
        while end < len(words) and until[end + 1] - until[start] - word.spaced <= limit:
            end += 1
        end = max(end, start + 1)
        ends.append(end)
    return [*ends, len(words)]


def _bridge_cost(words: Sequence[CueWord], ends: Sequence[float], i: int) -> float:
    """The cost of showing words[i] and the one after it together."""
    last = i + 1 == len(words)
    pause = 0 if last else (words[i + 1].start - words[i].end) / 100
    return ends[i] + BRIDGED_PAUSE * (pause > LONG_PAUSE)


def _break_cost(words: Sequence[CueWord], ends: Sequence[float], end: int) -> float:
    """The cost of ending a cue before words[end]."""
    if end == len(words) or ends[end - 1]:
        return 0.0
    pause = min(max(words[end].start - words[end - 1].end, 0) / 100, 0.5)
    if _SENTENCE_END.search(words[end - 1].text):
        return 0.0
    return (CLAUSE if _CLAUSE_END.search(words[end - 1].text) else BROKEN_CLAUSE) - pause


def _unfilled_costs(limit: int) -> Floats:
    """The cost of the columns that a cue leaves unfilled, and the 1 of each cue: by its columns."""
    most = limit * MAX_LINES
    return np.array([1.0 + 0.5 * (1 - width / most) ** 2 for width in range(most + 1)])


def _cue_costs(
    words: Sequence[CueWord], starts: Integers, end: int, widths: Integers, unfilled: Floats
) -> Floats:
    """The cost of showing the words before words[end] together, 1 and more.

    For cues that begin with each of the words before, the last one alone at the end: their start
    and columns [n] -> costs [n].
    """
    seconds = (words[end - 1].end - starts) / 100
    free = (words[end].start - words[end - 1].end) / 100 if end < len(words) else MIN_SECONDS
    cost = unfilled[np.minimum(widths, len(unfilled) - 1)]
    if len(words) > 1:
        cost[-1] += LONE_WORD
    cost += np.maximum(widths / READING_SPEED - seconds - max(free, 0.0), 0.0)
    cost[:-1] += 3.0 * np.maximum(seconds[:-1] - MAX_SECONDS, 0.0)
    return cost + np.maximum(MIN_SECONDS - seconds - max(free, 0.0), 0.0)


def _timed(drafts: Sequence[Sequence[CueWord]], limit: int, last: int) -> list[Cue]:
    """Give each cue its time: while it is spoken, and then until it is read, where there is room.

    A cue stays no longer than until the next one, or until `last`, the end of the audio.
    """
    timed: list[Cue] = []
    edge = 0
    for words, following in zip(drafts, [*drafts[1:], None], strict=True):
        start = max(words[0].start, edge)
        room = max(following[0].start if following else last, start + 1)
        reading = max(MIN_SECONDS, sum(map(_width, words)) / READING_SPEED)
        end = min(max(words[-1].end, start + round(100 * reading)), room)
        inside = tuple(
            replace(w, start=min(max(w.start, start), end), end=min(max(w.end, start), end))
            for w in words
        )
        timed.append(Cue(start, end, _lines(inside, limit)))
        edge = end
    return timed


def _lines(words: tuple[CueWord, ...], limit: int) -> tuple[tuple[CueWord, ...], ...]:
    """One line where the words fit, else two: of like width, cut at a clause, no word alone."""
    until = [0, *accumulate(_width(word) for word in words)]
    if until[-1] - words[0].spaced <= limit or len(words) == 1:  # one emoji may be wider
        return (words,)

    def cost(cut: int) -> float:
        above, below = until[cut] - words[0].spaced, until[-1] - until[cut] - words[cut].spaced
        too_wide = 1000 * (max(above - limit, 0) + max(below - limit, 0))
        alone = limit * (cut == 1 or cut == len(words) - 1) * (len(words) > 3)
        clause = limit / 3 * bool(_CLAUSE_END.search(words[cut - 1].text))
        return too_wide + alone + abs(above - below) - clause

    cut = min(range(1, len(words)), key=cost)
    return words[:cut], words[cut:]
