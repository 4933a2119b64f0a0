"""Text that comes in pieces -> the sentences that `split` gives of the whole, as early as known.

A language model writes some letters at a time. A sentence is known once nothing that may follow
could change it: that takes the next word or two, for the end of a sentence depends on what comes
after it (a digit after a full stop, a lower-case letter, a second quotation mark), and what is
short goes to its neighbour. The steps are those of `sentences`:

1. `_LineReader`: pieces -> lines without needless white space;
2. `SentenceBuffer`: a line that begins with a word ends the paragraph, unless it was wrapped;
3. `_settled`: of the paragraph so far, the pieces that no text behind them could change.

Where a piece is longer than HELD characters without an end, it is cut as if it had one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import regex

from worker.text.sentences import (
    FIRST_WORDS,
    LEAST_SHARE,
    LOOK_AHEAD,
    MAX_TITLE,
    MAX_WEIGHT,
    NEXT,
    STOP,
    WORD,
    bounded,
    goes_on,
    is_end,
    is_short,
    joined,
    sentence_ends,
    weights_of,
)

HELD = 1_000  # characters: five pieces
# Where nothing was known, it is looked again when a fiftieth more is there: letter by letter, too,
# a text costs time that grows with its length alone.
_GROWTH = 50

_ANY_STOP = regex.compile(r"[.!?…。！？｡]")
_MAY_GO_ON = frozenset({"", " ", " ."})  # after a stop: more stops, marks or pictures may follow
_OPEN_TITLE = regex.compile(rf"《[^《》]{{0,{MAX_TITLE}}}$")


class SentenceBuffer:
    """Holds what is not a whole sentence yet. `feed` text, then `flush` the rest."""

    def __init__(self) -> None:
        self._lines = _LineReader()
        self._clear()

    def _clear(self) -> None:
        self._paragraph = ""  # from the beginning of a sentence on
        self._given = 0  # characters of it that were given
        self._speaks = False  # whether the paragraph has a word
        self._placed = False  # whether the line belongs to the paragraph already
        self._waiting = ""  # a line that has no word yet, if that decides where it belongs
        self._previous = 0  # length of the line before
        self._due = 0  # characters held, at which it is worth to look again

    @property
    def held(self) -> int:
        """How many characters are held."""
        return len(self._paragraph) - self._given + len(self._waiting)

    def feed(self, text: str) -> list[str]:
        """Take the next piece of the text; give the sentences that are now known, in order."""
        given: list[str] = []
        for part, ends_line in self._lines.feed(text):
            given += self._take(part)
            if ends_line:
                self._end_line()
        return given + self._known()

    def flush(self) -> list[str]:
        """The text is at its end, or has to be spoken: give the rest. Then a new text may begin."""
        self._lines.end()
        self._end_line()
        given = self._close()
        self._lines, self._placed = _LineReader(), False
        self._clear()
        return given

    def _take(self, part: str) -> list[str]:
        """Take a part of a line."""
        if self._placed:
            self._paragraph += part
            self._speaks = self._speaks or bool(WORD.search(part))
            return []
        self._waiting += part
        return self._place()

    def _place(self) -> list[str]:
        """Put the line where it belongs, if that is known; give the paragraph that it ends."""
        line, has_word = self._waiting, bool(WORD.search(self._waiting))
        if not line:
            return []
        if not self._speaks or goes_on(self._previous, line):
            self._append(line)
            self._speaks = self._speaks or has_word
        elif has_word:
            given = self._close()
            self._paragraph, self._given, self._speaks = line, 0, True
            self._waiting, self._placed = "", True
            return given
        elif len(line) > HELD:
            self._append(line)
        return []

    def _append(self, line: str) -> None:
        self._paragraph += f" {line}" if self._paragraph else line
        self._waiting, self._placed = "", True

    def _end_line(self) -> None:
        if self._waiting:  # without a word, so it belongs to the paragraph
            self._append(self._waiting)
        self._previous, self._placed = self._lines.length, False
        self._lines.begin()

    def _known(self) -> list[str]:
        """Give what is known of the paragraph."""
        if self.held < self._due:
            return []
        given = self._give()
        while len(self._paragraph) - self._given > HELD:
            given += [*self._cut(), *self._give()]
        self._due = self.held + self.held // _GROWTH
        return given

    def _give(self) -> list[str]:
        """Give the pieces that are settled, and forget the sentences that they are of."""
        text = self._paragraph + (" " if not self._placed or self._lines.spaced else "")
        if not _ANY_STOP.search(text):
            return []
        ends, bounds = _settled(text)
        new = [bound for bound in bounds if bound >= self._given]
        pieces = [text[start:end].strip() for start, end in pairwise(new)]
        if new:
            self._given = new[-1]
        begin = max((end for end in ends if end in bounds), default=0)
        self._paragraph = self._paragraph[begin:]
        self._given -= begin
        return pieces

    def _cut(self) -> list[str]:
        """Give all of what is too long but its last piece."""
        if not self._speaks:
            self._paragraph = ""
            return []
        *pieces, rest = self._close()
        self._paragraph, self._given = rest, 0
        return pieces

    def _close(self) -> list[str]:
        """Give the rest of the paragraph, which is at its end; nothing where no word is in it."""
        text = self._paragraph
        if not self._speaks or not text:
            return []
        weights = weights_of(text)
        ends = [end for end in sentence_ends(text) if end in weights]
        bounds = joined(text, bounded(text, ends, weights, MAX_WEIGHT), weights, MAX_WEIGHT)
        new = [bound for bound in bounds if bound >= self._given]
        self._paragraph, self._given, self._due = "", 0, 0
        return [text[start:end].strip() for start, end in pairwise(new)]


class _LineReader:
    """Lines out of pieces: white space becomes one space, or none at a line's beginning and end."""

    def __init__(self) -> None:
        self._half = ""  # a carriage return, which a line feed may follow
        self.begin()

    def begin(self) -> None:
        """Begin a line."""
        self.length = 0
        self.spaced = False  # whether white space came after it so far

    def end(self) -> None:
        """Take what was held back as the end of a line."""
        self._half = ""

    def feed(self, text: str) -> Iterator[tuple[str, bool]]:
        """Give the parts of lines that a piece has, each with whether its line ends there."""
        text = self._half + text
        self._half = "\r" if text.endswith("\r") else ""
        for line in text.removesuffix(self._half).splitlines(keepends=True):
            content = line.splitlines()[0]
            yield self._part(content), len(content) < len(line)

    def _part(self, content: str) -> str:
        words = content.split()
        if not words:
            self.spaced = self.spaced or bool(content)
            return ""
        part = " ".join(words)
        if self.length and (self.spaced or content[0].isspace()):
            part = f" {part}"
        self.spaced = content[-1].isspace()
        self.length += len(part)
        return part


def _settled(text: str) -> tuple[list[int], list[int]]:
    """The ends of sentences that are decided, and the bounds of pieces, whatever follows.

    `text` begins with a sentence, and the paragraph may go on after it.
    """
    weights = weights_of(text)
    decided, horizon = _decided_ends(text)
    ends = [end for end in decided if end in weights]
    cuts = bounded(text, ends, weights, MAX_WEIGHT)
    bounds = joined(text, cuts, weights, MAX_WEIGHT, more=True)
    # A short piece may still go to the one before or after it, and takes its bounds with it.
    unsure = 0
    if len(bounds) > 1 and is_short(text, weights, *bounds[-2:]):
        unsure = 2
    elif not _begins_long(text, bounds[-1], horizon, weights):
        unsure = 1
    return ends, bounds[: max(1, len(bounds) - unsure)]


def _decided_ends(text: str) -> tuple[list[int], int]:
    """The ends of sentences that nothing behind them could change, and how far they are known."""
    title = _OPEN_TITLE.search(text)
    known = title.start() if title else len(text)
    ends: list[int] = []
    start = 0
    for stop in STOP.finditer(text):
        if stop.start() >= known or not _is_decided(text, stop, start):
            return ends, min(known, stop.start())
        if stop["stops"] and is_end(text, stop, start):
            start = stop.end() + text.startswith(" ", stop.end())
            ends.append(start)
    return ends, known


def _is_decided(text: str, stop: regex.Match[str], start: int) -> bool:
    """Whether no text that follows could change what the stops are: an end or none."""
    if not stop["stops"]:  # a title
        return True
    rest = text[stop.end() : stop.end() + LOOK_AHEAD]
    if rest in _MAY_GO_ON:
        return False
    following = NEXT.match(rest)
    if following is None or len(rest) == LOOK_AHEAD:
        return True
    if following["dot"] or following.end() < len(rest):
        return True  # the word after it is whole
    word = str(following["word"])
    if not word:
        return False
    longer = next((first for first in FIRST_WORDS if first.startswith(word)), word)
    whole = text + longer.removeprefix(word)
    return is_end(f"{whole} ", stop, start) == is_end(f"{text}.", stop, start)


def _begins_long(text: str, start: int, known: int, weights: dict[int, int]) -> bool:
    """Whether the piece that begins at `start` is not short, wherever it will end."""
    known = len(text[:known].rstrip())
    least = weights[start] + MAX_WEIGHT * LEAST_SHARE  # where it may be cut at the earliest
    place = max((p for p, weight in weights.items() if p <= known and weight <= least), default=0)
    return place > start and not is_short(text, weights, start, place)
