"""Text that comes in pieces -> the sentences that `split` gives of the whole, as early as known.

A language model writes some letters at a time. A sentence is known once nothing that may follow
could change it: that takes the next word or two, for the end of a sentence depends on what comes
after it (a digit after a full stop, a lower-case letter, a second quotation mark), and what is
short goes to its neighbour. The steps are those of `sentences`:

1. `_LineReader`: pieces -> lines without needless white space;
2. `ParagraphReader`: lines -> paragraphs. Whether a line was wrapped may be known a line or two
   later, and only then is it given;
3. `_settled`: of the paragraph so far, the pieces that no text behind them could change.

Where a piece is longer than HELD characters without an end, it is cut as if it had one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import regex

from worker.text.abbreviations import may_be_abbreviated
from worker.text.hyphens import HYPHENS
from worker.text.paragraphs import WORD, ParagraphReader, Part
from worker.text.sentences import (
    LEAST_SHARE,
    LOOK_AHEAD,
    MAX_TITLE,
    MAX_WEIGHT,
    NEXT,
    STOP,
    before_stop,
    begins_item,
    bounded,
    end_at,
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
# A line that ends like this may end within a word.
_WORD_THAT_GOES_ON = regex.compile(rf"[{HYPHENS}] ?$")
# What may become the mark of a list's item, or of something cited.
_ITEM_BEGUN = regex.compile(r"(?:(?<!\w)[•⁃▪*-]? ?\w{1,2})?$")
_CITING = regex.compile(r"\[\d{0,3}$")
_OPEN_TITLE = regex.compile(rf"《[^《》]{{0,{MAX_TITLE}}}$")


class SentenceBuffer:
    """Holds what is not a whole sentence yet. `feed` text, then `flush` the rest."""

    def __init__(self) -> None:
        self._lines = _LineReader()
        self._reader = ParagraphReader()
        self._clear()

    def _clear(self) -> None:
        self._paragraph = ""  # from the beginning of a sentence on
        self._given = 0  # characters of it that were given
        self._speaks = False  # whether the paragraph has a word
        self._due = 0  # characters held, at which it is worth to look again

    @property
    def held(self) -> int:
        """How many characters are held."""
        return len(self._paragraph) - self._given + self._reader.held

    def feed(self, text: str) -> list[str]:
        """Take the next piece of the text; give the sentences that are now known, in order."""
        given: list[str] = []
        for words, ends_line in self._lines.feed(text):
            given += self._take(self._reader.feed(words, ends_line=ends_line))
            if ends_line:
                self._lines.begin()
        return given + self._known()

    def flush(self) -> list[str]:
        """The text is at its end, or has to be spoken: give the rest. Then a new text may begin."""
        given = [*self._take(self._reader.end()), *self._close()]
        self._lines = _LineReader()
        self._clear()
        return given

    def _take(self, parts: list[Part]) -> list[str]:
        """Take parts of paragraphs; give the paragraphs that they end."""
        given: list[str] = []
        for part in parts:
            if part.begins:
                given += self._close()
                self._speaks = False
            kept = len(self._paragraph) - part.drop
            self._paragraph = self._paragraph[:kept] + part.text
            self._speaks = self._speaks or bool(WORD.search(part.text))
        return given

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
        text = self._paragraph
        if self._reader.within_line and self._lines.spaced:
            text += " "
        text = _WORD_THAT_GOES_ON.sub("", text)
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
            known = min(known, stop.start())
            break
        end = end_at(text, stop, start)
        if end:
            ends.append(end)
        start = end or start
    if begins_item(text, start):  # the next item may begin before what is known so far
        known -= len(next(_ITEM_BEGUN.finditer(text[max(0, known - 4) : known]))[0])
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
    if following["word"] in {"", "I"} or _CITING.match(rest):
        return False
    return stop["stops"] != "." or not may_be_abbreviated(before_stop(text, stop, start))


def _begins_long(text: str, start: int, known: int, weights: dict[int, int]) -> bool:
    """Whether the piece that begins at `start` is not short, wherever it will end."""
    known = len(text[:known].rstrip())
    least = weights[start] + MAX_WEIGHT * LEAST_SHARE  # where it may be cut at the earliest
    place = max((p for p, weight in weights.items() if p <= known and weight <= least), default=0)
    return place > start and not is_short(text, weights, start, place)
