"""The passages of a text: whatever of it is not said as it is spelled, in English and Chinese."""

from __future__ import annotations

import re

from worker.text.spoken.passage import Passage, find
from worker.text.spoken.plain import plain
from worker.text.words import HAN, has_han

# What has none of these has no passage: most sentences, at the cost of one look.
_WORTH_A_LOOK = re.compile(
    r"[^\x00-\x7f\u2010-\u201f\u2026\u3000-\u303f\u4e00-\u9fff\uff01-\uff0f\uff1a-\uff1f]"
    r"|[\d$%&@#+=<>^~*/]|(?<![A-Za-z])(?:[IVXLCDM]{2}|WWI)|(?<!\w)[A-Z]?[a-z]{1,5}\.|[-−–]\d|[IVX](?!\w)|\w\.\w|\b(?:w/|vs|Mrs?\b|Dr\b|Prof\b|km/h|m/s)"
)
_STRETCH = re.compile(rf"[^{HAN}，。；！？、：“”「」『』《》（）]+")
_WORD = re.compile(r"(?<![\w@./-])[A-Za-z]+(?:['’][a-z]+)?(?![\w@/])")
ENGLISH_WORDS = 3  # in a row, that make a piece of a Chinese sentence English


def passages(text: str, language: str) -> list[Passage]:
    """Find the passages of a sentence in 'en' or 'zh', in order; they do not overlap.

    A number beside Chinese characters is Chinese in any sentence; one among several English words
    is English. Time is linear in the text.
    """
    if not _WORTH_A_LOOK.search(text):
        return []
    # Their patterns take 0.1 s to make: not at the start, but for the first text with a number.
    from worker.text.spoken import english  # noqa: PLC0415

    same_length = plain(text)
    if not has_han(text) and language == "en":
        found = find(same_length, english.RULES, bytearray(len(text)))
    else:
        from worker.text.spoken import chinese  # noqa: PLC0415

        not_chinese = _english_stretches(text, language)
        not_english = bytearray(1 - mark for mark in not_chinese)
        found = find(same_length, chinese.RULES, not_chinese)
        found += find(same_length, english.RULES, not_english)
    return sorted(found, key=lambda passage: passage.start)


def _english_stretches(text: str, language: str) -> bytearray:
    """Mark the stretches between Chinese characters that are English."""
    marks = bytearray(len(text))
    for stretch in _STRETCH.finditer(text):
        words = len(_WORD.findall(stretch.group()))
        if words >= (1 if language == "en" else ENGLISH_WORDS):
            start, end = stretch.span()
            marks[start:end] = b"\1" * (end - start)
    return marks
