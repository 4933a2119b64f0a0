"""Line breaks of English: which were made for want of room.

Verses, titles, addresses and lists have lines of any length too. What they do not have is a line
that begins in lower case after one in capitals, or a sentence that ends within a line.
"""

from __future__ import annotations

import regex

from worker.text.abbreviations import LONGEST, wants_more
from worker.text.line_gaps import NARROWEST, WRAPPED_LINE, Gap, Verdict, look_behind
from worker.text.line_shapes import SPEAKER, WIDEST, LineShape, LineStart

_NO_END = regex.compile(
    r"(?:^|[\s\"“‘(\[])(?:[Tt]he|a|[Aa]n|of|and|or|nor|[Mm]y|[Yy]our|[Oo]ur|[Tt]heir|every|very|"
    r"than|whose|because|although|if)$"
)
# Titles and questions may end with one of these.
_SELDOM_END = regex.compile(
    r"(?:^|\s)(?:to|in|on|at|by|with|from|for|into|onto|upon|about|between|among|against|towards?|"
    r"through|during|under|until|near|since|is|are|was|were|be|been|has|have|had|will|would|can|"
    r"could|may|might|should|must|shall|that|which|who|whom|when|where|while|as|but|so|its|his|her|"
    r"this|these|those|some|any|each|both|he|she|they|we|I|old|new|said|called|named)$"
)
_TITLE = 24  # columns; shorter titles may end with any word
_STOPPED_WORD = regex.compile(r"(?P<word>[\p{L}\d.°]{1,24})\.$")
_SENTENCE_END = regex.compile(
    r"(?P<word>[^\s.!?]++)(?P<stop>[.!?])[\"'”’)\]]*+ ++[\"'“‘(\[]*+\p{Lu}"
)


def of_full_lines(gap: Gap) -> Verdict | None:
    """In a block that was wrapped each full line is."""
    if gap.before.columns > WIDEST:
        return Verdict.ENDS
    if gap.block.wrapped:
        return gap.fullness
    return Verdict.ENDS if gap.before.columns < NARROWEST else None


def of_last_word(gap: Gap) -> Verdict | None:
    """A line that ends with 'the' is no whole sentence."""
    return Verdict.GOES_ON if lacks_more(gap.before, gap.start) else None


def of_sentence_end(gap: Gap) -> Verdict | None:
    """A line that ends as a sentence, a title or an item does, or one before a sentence's start."""
    before, lower = gap.before, gap.start.kind == "lower"
    if before.stops or before.announces or gap.start.kind == "first":
        return Verdict.ENDS
    if before.is_title and not (lower or _both_shout(gap)):
        return Verdict.ENDS
    return Verdict.ENDS if gap.block.lower and lower else None


def of_lines_behind(gap: Gap) -> Verdict:
    """What follows shows whether it is prose."""
    otherwise = Verdict.GOES_ON if _both_shout(gap) else Verdict.ENDS
    return look_behind(gap, _of_line, _of_break, otherwise)


def lacks_more(before: LineShape, start: LineStart) -> bool:
    """Whether the line before cannot be the whole of its sentence, for its last word."""
    stopped = _STOPPED_WORD.search(before.end)
    if stopped is not None and wants_more(str(stopped["word"])[-LONGEST:], start.word):
        return True
    if before.columns < _TITLE:
        return False
    seldom = start.kind != "first" and _SELDOM_END.search(before.end) is not None
    return seldom or _NO_END.search(before.end) is not None


def _both_shout(gap: Gap) -> bool:
    return gap.before.shouts and gap.start.word.isupper() and len(gap.start.word) > 1


def _of_line(gap: Gap, i: int) -> Verdict | None:
    line = gap.ahead.lines[i]
    if SPEAKER.match(line):
        return Verdict.ENDS
    if _ends_sentence_within(line) or _is_no_item(gap, line):
        return Verdict.GOES_ON
    shape = LineShape().grown(line)
    return _of_last_line(gap, i) if shape.stops or shape.announces else None


def _is_no_item(gap: Gap, line: str) -> bool:
    """Whether a line in lower case cannot be an item of a list, for its last word."""
    unfinished = _NO_END.search(line) or _SELDOM_END.search(line)
    return gap.start.kind == "lower" and unfinished is not None


def _of_last_line(gap: Gap, i: int) -> Verdict:
    """Line `i` ends a sentence, or announces the next one."""
    columns, kind = gap.before.columns, gap.start.kind
    if kind == "lower" or columns >= gap.before.verse:
        return Verdict.GOES_ON
    if i or (columns <= WRAPPED_LINE and kind != "bracket"):
        return Verdict.ENDS
    if kind in {"number", "bracket", "label"}:
        return Verdict.GOES_ON
    if gap.block.lines > 1 or len(gap.ahead.lines) > 1:  # more lines, which may be verses
        return Verdict.ENDS
    return Verdict.GOES_ON if gap.ahead.last else Verdict.LATER


def _of_break(gap: Gap, i: int) -> Verdict | None:
    start = gap.ahead.start(i + 1)
    if start is None or start.kind == "first":
        return Verdict.ENDS
    if (start.kind == "lower") != (gap.start.kind == "lower"):
        return Verdict.GOES_ON  # neither verses nor a list
    return None


def _ends_sentence_within(line: str) -> bool:
    """Whether a sentence ends before the line does, after what is plainly no abbreviation."""
    for match in _SENTENCE_END.finditer(line):
        word = str(match["word"])[-LONGEST:]
        number = word.isdigit() and match.start() > 0  # behind no mark of a list
        plain = number or (len(word) > 2 and not word.isdigit() and not wants_more(word, "X"))
        if match["stop"] != "." or plain:
            return True
    return False
