"""Which line breaks end a sentence, and which were made for want of room.

A line break ends a sentence, except in text that was wrapped: by an e-mail program, an editor, a
PDF's page. That is told by the shape of the paragraph, not by the next letter alone:

- a wrapped line is full: the first word of the next one would not have fitted into the width of its
  paragraph. Widths of up to 140 columns are known, a Chinese character has two;
- it does not end as a sentence does, and the next one is no item of a list;
- what follows shows that it is prose, in which a line begins in lower case or a sentence ends
  within a line. Lines that may be verses need more of it than longer ones;
- once a block was seen to be wrapped, each of its full lines is.

Some breaks need none of that: within a word, or after a word that no sentence ends with ('the',
'Dr.'). A break is judged by the lines before it and as few as possible behind it, for text may come
in pieces: six lines at most, of little more than the width each.
"""

from __future__ import annotations

import regex

from worker.text import chinese_wraps, english_wraps
from worker.text.hyphens import is_suspended, keeps_hyphen, may_grow, parts_word
from worker.text.line_gaps import (
    CHINESE,
    NARROWEST,
    WRAPPED_LINE,
    Ahead,
    Block,
    Gap,
    Rule,
    Verdict,
)
from worker.text.line_shapes import WIDEST, is_wide
from worker.text.words import HAN

_NO_SPACE = regex.compile(rf"[{HAN}\p{{Hiragana}}\p{{Katakana}}]")


def verdict_on(block: Block, ahead: Ahead, quoted: int) -> Verdict:
    """Whether the line after a break goes on in the sentence before it.

    `quoted` is how many marks of a quotation stood before that line.
    """
    if not block.line.columns or _ends_for_sure(block, ahead.lines[0]):
        return Verdict.ENDS
    start = ahead.start(0)
    if start is None:
        return Verdict.LATER
    gap = Gap(block, ahead, start, quoted)
    chinese = start.kind == "wide" or block.line.has_han
    verdicts = (rule(gap) for rule in (*_ANY, *(_CHINESE if chinese else _ENGLISH)))
    return next(verdict for verdict in verdicts if verdict)  # the last rule always has one


def glue(end: str, following: str) -> tuple[int, str]:
    """How to join two lines of a sentence: characters to drop from the first, what to put between.

    The break within a word goes, with its hyphen where that was made for it; Chinese is joined
    without a space.
    """
    if parts_word(end) and not is_suspended(following):
        return (0 if keeps_hyphen(end, following) else 1), ""
    pair = end[-1:], following[:1]
    unspaced = all(map(is_wide, pair)) and any(map(_NO_SPACE.match, pair))
    return 0, "" if unspaced else " "


def _ends_for_sure(block: Block, line: str) -> bool:
    """Whether the first letter of the next line is enough to know that it begins a sentence."""
    before = block.line
    if parts_word(before.end):
        return False
    if before.columns < CHINESE:
        return True
    if before.columns > WIDEST:
        return line[0].isupper()
    may_be_chinese = before.has_han or is_wide(line[0]) or not line[0].isalnum()
    return before.columns < NARROWEST and not block.wrapped and not may_be_chinese


def _of_quotation(gap: Gap) -> Verdict | None:
    """Another depth is another writer, but for programs that wrap quoted lines once more."""
    if gap.before.quoted == gap.quoted:
        return None
    again = gap.start.kind == "lower" and gap.before.columns > WRAPPED_LINE
    return Verdict.GOES_ON if again else Verdict.ENDS


def _of_hyphen(gap: Gap) -> Verdict | None:
    if not parts_word(gap.before.end):
        return None
    if gap.start.kind == "lower":
        grows = not gap.ahead.is_whole(0) and may_grow(gap.line)
        return Verdict.LATER if grows else Verdict.GOES_ON
    capital = gap.start.kind in {"name", "number", "first"}  # Anglo-Saxon, Apollo-11
    return Verdict.GOES_ON if capital and gap.before.columns >= NARROWEST else Verdict.ENDS


def _of_items(gap: Gap) -> Verdict | None:
    """Whether the next line is an item of a list: '27.', but not after 'at the age of'."""
    before, kind = gap.before, gap.start.kind
    if kind != "label":
        return Verdict.ENDS if kind == "item" else None
    if not gap.block.listed and english_wraps.lacks_more(before, gap.start):
        return None
    first = gap.block.listed or before.stops or before.announces
    return Verdict.ENDS if first or gap.start.word in {"1", "A", "I"} else None


def _of_lower_case(gap: Gap) -> Verdict | None:
    long = gap.before.columns > WRAPPED_LINE
    return Verdict.GOES_ON if long and gap.start.kind == "lower" else None


_ANY: tuple[Rule, ...] = (_of_quotation, _of_hyphen, _of_items, _of_lower_case)
_ENGLISH: tuple[Rule, ...] = (
    english_wraps.of_full_lines,
    english_wraps.of_last_word,
    english_wraps.of_sentence_end,
    english_wraps.of_lines_behind,
)
_CHINESE: tuple[Rule, ...] = (
    chinese_wraps.of_width,
    chinese_wraps.of_words,
    chinese_wraps.of_full_lines,
    chinese_wraps.of_marks,
    chinese_wraps.of_lines_behind,
)
