"""Line breaks of Chinese: which were made for want of room.

Chinese is wrapped anywhere, within words too, and such a break shows itself by the dictionary of
jieba. Titles and verses never break a word.
"""

from __future__ import annotations

import regex

from worker.text.line_gaps import CHINESE, Gap, Verdict, look_behind
from worker.text.line_shapes import SPEAKER, WIDEST, has_han
from worker.text.words import HAN

_LOOK = 6  # characters on each side, of which a word may be made
_END = regex.compile(f"[{HAN}]{{1,{_LOOK}}}$")
_START = regex.compile(f"[{HAN}]{{1,{_LOOK}}}")

_NO_END = regex.compile("[的和与及或在把被从向为将让给]$")
_NEVER_FIRST = "的了着得们吗呢吧之，、；。！？：”’）》」』"
_AFTER_DIGITS = "年月日号点时分秒个元块岁人名位次天万亿度米"
# Verses with a pause within have one at their end too.
_CLAUSE_WITHIN = regex.compile(r"[，、；：。！？](?=.*\w)")
_MARK_LAST = regex.compile(r"\p{P}$")
_FULL_STOP = regex.compile("[。！？]")


def of_width(gap: Gap) -> Verdict | None:
    """Lines that are shorter or longer than any column end where their writer wanted."""
    return None if CHINESE <= gap.before.columns <= WIDEST else Verdict.ENDS


def of_words(gap: Gap) -> Verdict | None:
    """Whether the break is within a word."""
    return _of_word(gap, gap.before.end, 0)


def of_full_lines(gap: Gap) -> Verdict | None:
    """In a block that was wrapped each full line is."""
    return gap.fullness if gap.block.wrapped else None


def of_marks(gap: Gap) -> Verdict | None:
    """A line that ends as a sentence does; one that cannot be whole; a next that begins none."""
    before, first = gap.before, gap.line[0]
    if before.stops or before.announces or not before.has_han:
        return Verdict.ENDS
    counted = before.end[-1].isdigit() and first in _AFTER_DIGITS
    if counted or first in _NEVER_FIRST or _NO_END.search(before.end):
        return Verdict.GOES_ON
    return None


def of_lines_behind(gap: Gap) -> Verdict:
    """What follows shows whether it is prose."""
    return look_behind(gap, _of_line, _of_break, _otherwise(gap))


def _otherwise(gap: Gap) -> Verdict:
    return Verdict.GOES_ON if _pauses_within_alone(gap) else Verdict.ENDS


def _pauses_within_alone(gap: Gap) -> bool:
    before = gap.before
    return bool(_CLAUSE_WITHIN.search(before.start)) and not _MARK_LAST.search(before.end)


def _of_line(gap: Gap, i: int) -> Verdict | None:
    line = gap.ahead.lines[i]
    if not has_han(line) or SPEAKER.match(line):
        return Verdict.ENDS
    if _FULL_STOP.search(line):
        return Verdict.GOES_ON if gap.before.columns >= gap.before.verse else _otherwise(gap)
    return None


def _of_break(gap: Gap, i: int) -> Verdict | None:
    return _of_word(gap, gap.ahead.lines[i], i + 1)


def _of_word(gap: Gap, end: str, i: int) -> Verdict | None:
    """Whether the break before line `i`, after `end`, is within a word."""
    line = gap.ahead.lines[i]
    first, second = _END.search(end), _START.match(line)
    if first is None or second is None:
        return None
    if len(second[0]) < _LOOK and second.end() == len(line) and not gap.ahead.is_whole(i):
        return Verdict.LATER
    return Verdict.GOES_ON if _is_within_word(str(first[0]), str(second[0])) else None


def _is_within_word(first: str, second: str) -> bool:
    import rjieba  # noqa: PLC0415 - 0.2 s for its dictionary, which wrapped Chinese alone needs

    place = 0
    for word in rjieba.cut(first + second, False):  # none that it guesses
        if place == len(first):
            return False
        place += len(word)
    return True
