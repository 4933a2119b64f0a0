"""Lines -> paragraphs, each a text in which sentences may go on from line to line.

Lines come whole or part by part; what is given is the same. A line begins a paragraph, unless it

- goes on in the sentence of the line before (see `line_breaks`);
- has no letter or digit ('***'): it belongs to the paragraph before, or to the first one;
- is a bare number ('02', 'IV', '(3)', 'b.'): of a page, a slide or a heading. It is no sentence of
  its own, and goes to the line that follows, since headings are numbered so; at the end of the text
  to the one before. A column of numbers is spoken.

The marks of a quotation in an e-mail ('> ') are dropped: they are no more than its line breaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from worker.text.line_breaks import glue, verdict_on
from worker.text.line_gaps import Ahead, Block, Verdict
from worker.text.line_shapes import LineShape

WORD = regex.compile(r"[^\W_]")
# A line without a word that is longer is not waited for.
LONGEST_MARKS = 1_000
_COLUMN = 24  # characters of bare numbers in a row, which are a text of their own

_NUMBER = r"[^\p{L}\p{N}]{0,3}(?:\d{1,3}(?:[^\p{L}\p{N}]{1,3}\d{1,3}){0,3}|\d{4})[^\p{L}\p{N}]{0,3}"
_ROMAN = "(?=[IVX]|[LC].)(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_CHINESE = "[一二三四五六七八九十]{1,3}"
_AFTER = r"[.):\]）、．]"
# A letter alone is a word: of a spelling, or said so.
_LETTER = rf"[(\[（]?(?:(?:{_ROMAN}|{_CHINESE}){_AFTER}?|\p{{Latin}}{_AFTER})"
_BARE = regex.compile(f"{_NUMBER}|{_LETTER}")
_BARE_BEGUN = regex.compile(
    rf"[^\p{{L}}]{{0,20}}|[(\[（]?(?:[IVXLC]{{1,7}}|\p{{Latin}}|{_CHINESE}){_AFTER}?"
)
_QUOTED = regex.compile(r"(?:>[ \t]?)++(?=[\s\p{L}\"'“‘(\[>*-]|$|(?<=[ \t]))[ \t]*+")
_QUOTING = regex.compile(r"(?:> ?)+")


@dataclass(frozen=True)
class Part:
    """A part of a paragraph."""

    text: str
    begins: bool = False  # whether it begins a paragraph, so that the one before is at its end
    drop: int = 0  # characters to take from the end of the part before: a hyphen


@dataclass(frozen=True)
class _Line:
    """A line without a place."""

    text: str
    quoted: int  # marks of a quotation that stood before it
    whole: bool


class ParagraphReader:
    """`feed` lines or parts of them, then `end` the text; both give what is known so far.

    A part holds no white space but one space between words.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._block = Block()
        self._queue: list[str] = []  # lines that have no place yet, as they were written
        self._open = False  # whether the last line of the queue may grow
        self._placed: LineShape | None = None  # the line that has a place and may grow
        self._continues = False  # whether that line goes on in the sentence before it
        self._numbers = ""  # bare numbers, which wait for the next line
        self._begun = False  # whether there is a paragraph
        self._speaks = False  # whether it has a word

    @property
    def held(self) -> int:
        """How many characters wait for their place."""
        return sum(map(len, self._queue)) + len(self._numbers)

    @property
    def within_line(self) -> bool:
        """Whether what was given last is the beginning of a line that may grow."""
        return self._placed is not None

    def feed(self, part: str, *, ends_line: bool) -> list[Part]:
        """Take a part of a line, and whether the line ends behind it."""
        given = []
        if part and self._placed is not None:
            self._placed = self._placed.grown(part)
            self._speaks = self._speaks or WORD.search(part) is not None
            given.append(Part(part))
        elif part and self._open:
            self._queue[-1] += part
        elif part:
            self._queue.append(part)
            self._open = True
        if ends_line:
            given += self._end_line()
        return given + self._place(last=False)

    def end(self) -> list[Part]:
        """The text is at its end: give what waited. Then a new one may begin."""
        given = [*self._end_line(), *self._place(last=True)]
        if self._numbers:
            given.append(
                Part(f" {self._numbers}") if self._begun else Part(self._numbers, begins=True)
            )
        self._clear()
        return given

    def _end_line(self) -> list[Part]:
        given = []
        if self._placed is not None:
            self._advance(self._placed, continues=self._continues)
            self._placed = None
        elif not self._open or not _unquoted(self._queue[-1])[0]:  # an empty line
            if self._open:
                self._queue.pop()
            self._open = False
            given = self._place(last=True)
            self._block = Block()
        self._open = False
        return given

    def _place(self, *, last: bool) -> list[Part]:
        """Give the lines whose place is known. `last`: an empty line or the end follows."""
        given: list[Part] = []
        while self._queue:
            text, quoted = _unquoted(self._queue[0])
            line = _Line(text, quoted, whole=not self._open or len(self._queue) > 1)
            how = self._how(line, last=last)
            if not how:
                break
            given += self._put(line, how)
            self._queue.pop(0)
            shape = LineShape(quoted=quoted).grown(text)
            if line.whole:
                self._advance(shape, continues=how == "goes on")
            else:
                self._placed, self._continues, self._open = shape, how == "goes on", False
        return given

    def _advance(self, line: LineShape, *, continues: bool) -> None:
        self._block = self._block.continued(line) if continues else self._block.begun(line)

    def _how(self, line: _Line, *, last: bool) -> str:
        """How a line is placed; nothing where that is not known yet."""
        endless = len(self._queue[0]) > LONGEST_MARKS
        if not line.whole and not endless and _QUOTING.fullmatch(self._queue[0]):
            return ""
        if not WORD.search(line.text):
            return "marks" if line.whole or endless else ""
        verdict = self._verdict(line, last=last)
        if verdict is not Verdict.ENDS:
            return "goes on" if verdict is Verdict.GOES_ON else ""
        return _how_begun(line)

    def _verdict(self, line: _Line, *, last: bool) -> Verdict:
        if not self._speaks or self._numbers:
            return Verdict.ENDS
        lines = [_unquoted(line)[0] for line in self._queue]
        ahead = Ahead(lines, whole=not self._open, last=last)
        return verdict_on(self._block, ahead, line.quoted)

    def _put(self, line: _Line, how: str) -> list[Part]:
        """Give a line, or have it wait for the next one."""
        if how == "goes on":
            drop, between = glue(self._block.line.end, line.text)
            return [Part(between + line.text, drop=drop)]
        if how == "marks" and not self._numbers:
            begins, self._begun = not self._begun, True
            return [Part(line.text if begins else f" {line.text}", begins=begins)]
        text = f"{self._numbers} {line.text}" if self._numbers else line.text
        self._numbers = "" if how == "begins" or len(text) > _COLUMN else text
        return [] if self._numbers else [self._begin(text)]

    def _begin(self, text: str) -> Part:
        """A new paragraph, or the first words of one."""
        begins = self._speaks or not self._begun
        self._begun = self._speaks = True
        return Part(text if begins else f" {text}", begins=begins)


def _how_begun(line: _Line) -> str:
    if line.whole:
        return "number" if _BARE.fullmatch(line.text) else "begins"
    return "" if _BARE_BEGUN.fullmatch(line.text) else "begins"


def _unquoted(line: str) -> tuple[str, int]:
    """A line without the marks of a quotation, and how many stood there."""
    marks = _QUOTED.match(line)
    return (line[marks.end() :], marks[0].count(">")) if marks else (line, 0)
