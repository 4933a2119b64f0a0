"""A line break with what stands before it and behind it, and what a rule may say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from worker.text.line_shapes import LineShape, LineStart, columns_of, start_of

NARROWEST = 20  # columns; a shorter line ends where its writer wanted it to
CHINESE = 16  # the same of Chinese, whose lines break within words
WRAPPED_LINE = 40  # before lower case, a longer line was wrapped
LOOK = 6  # lines behind a break
# How much wider the lines of a paragraph may be than a full one: a PDF's letters are of different
# widths, and so are its lines.
_WIDER = 0.9


class Verdict(Enum):
    """What is said of a line break; what is not LATER stays so, whatever follows."""

    GOES_ON = "goes on"  # in the sentence of the line before
    ENDS = "ends"
    LATER = "later"  # known when more of the text is there


@dataclass(frozen=True)
class Ahead:
    """The lines behind a break, as far as they are there, none of them empty."""

    lines: Sequence[str]
    whole: bool  # whether the last one is
    last: bool  # whether no line follows it before an empty one or the end of the text

    def is_whole(self, i: int) -> bool:
        """Whether line `i` is."""
        return self.whole or i + 1 < len(self.lines)

    def start(self, i: int) -> LineStart | None:
        """How line `i` begins, if that is known."""
        return start_of(self.lines[i], whole=self.is_whole(i))


@dataclass(frozen=True)
class Block:
    """The lines before a break, from an empty one on: what is known of their shape."""

    line: LineShape = field(default_factory=LineShape)  # the last one
    width: int = 0  # columns of the widest line since the last break that ended a sentence
    wrapped: bool = False  # whether a break of this block was seen to be one for want of room
    lower: bool = False  # whether the line after that break began in lower case
    listed: bool = False  # whether that line was an item of a list
    lines: int = 0

    def begun(self, line: LineShape) -> Block:
        """The block with a line behind it that begins a new sentence."""
        start = start_of(line.start, whole=True)
        kind = start.kind if start else ""
        return Block(
            line=line,
            width=line.columns,
            wrapped=self.wrapped,
            lower=kind == "lower",
            listed=kind in {"item", "label"},
            lines=self.lines + 1,
        )

    def continued(self, line: LineShape) -> Block:
        """The block with a line behind it that goes on in the sentence."""
        width = max(self.width, line.columns)
        wrapped = self.wrapped or self._shows(line, width)
        return replace(self, line=line, width=width, wrapped=wrapped, lines=self.lines + 1)

    def _shows(self, line: LineShape, width: int) -> bool:
        """Whether the break before this line shows that the block was wrapped."""
        before, start = self.line, start_of(line.start, whole=True)
        if start is None or before.stops:
            return False
        least = CHINESE if before.has_han else NARROWEST
        sure = start.kind == "lower" or before.columns >= before.verse or before.has_han
        return sure and before.columns >= least and start.fills(before.columns, width)


@dataclass(frozen=True)
class Gap:
    """A line break: what is before it, what behind it, and how the next line begins."""

    block: Block
    ahead: Ahead
    start: LineStart
    quoted: int = 0  # marks of a quotation before the next line

    @property
    def before(self) -> LineShape:
        """The line before the break."""
        return self.block.line

    @property
    def line(self) -> str:
        """The line behind it, as far as it is there."""
        return self.ahead.lines[0]

    @property
    def fullness(self) -> Verdict:
        """Goes on where the first word of the next line had no room before the break."""
        if self.start.fills(self.before.columns, self.block.width):
            return Verdict.GOES_ON
        return Verdict.ENDS if self.start.whole else Verdict.LATER


# Nothing where the rule has nothing to say.
Rule = Callable[[Gap], Verdict | None]
# The same of a gap and a line behind it: the verdict on the gap, as far as that line decides it.
LineRule = Callable[[Gap, int], Verdict | None]


def look_behind(gap: Gap, of_line: LineRule, of_break: LineRule, otherwise: Verdict) -> Verdict:
    """The verdict of the lines behind a gap.

    Each line that is whole is asked in turn, then the break behind it, as long as the lines might
    be wrapped ones: none is so long that the first word would have fitted before the gap, and each
    is full.
    """
    width = gap.block.width
    if gap.fullness is not Verdict.GOES_ON:
        return gap.fullness
    for i, line in enumerate(gap.ahead.lines[:LOOK]):
        columns = columns_of(line)
        if columns > gap.start.room(gap.before.columns) / _WIDER:
            return Verdict.ENDS
        width = max(width, columns)
        verdict = Verdict.LATER if not gap.ahead.is_whole(i) else of_line(gap, i)
        verdict = verdict or _of_next(gap, i, columns, width) or of_break(gap, i)
        if verdict:
            return verdict
    return otherwise


def _of_next(gap: Gap, i: int, columns: int, width: int) -> Verdict | None:
    """What the line after line `i` says, be it by not being there."""
    ahead = gap.ahead
    if i + 1 == len(ahead.lines):
        return Verdict.ENDS if ahead.last else Verdict.LATER
    start = ahead.start(i + 1)
    if start is None:
        return Verdict.LATER
    if start.kind in {"item", "label"}:
        return Verdict.ENDS
    fullness = Gap(Block(LineShape(columns=columns), width), ahead, start).fullness
    return None if fullness is Verdict.GOES_ON else fullness
