"""The words of a text, and the language that each is in.

Latin text has a word between spaces. Chinese writes none, so its characters are grouped by a
dictionary (jieba's). Nothing is lost: the words of a text, put together, are the text without its
white space.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# The ideographs of Unicode's CJK Unified Ideographs blocks, compatibility ideographs and U+3007.
HAN = "〇㐀-䶿一-鿿\uf900-\ufaff\U00020000-\U0003fffd"
_HAN = re.compile(f"[{HAN}]")
_LATIN_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# In text with Chinese: a run of ideographs, a run of letters and digits held together by such
# marks as stand inside of numbers and names, or one other character.
_PIECE = re.compile(
    rf"(?P<han>[{HAN}]+)"
    rf"|(?P<run>[^\W_{HAN}]+(?:[.,:'’/@&_+-][^\W_{HAN}]+)*)"
    r"|(?P<mark>.)",
    re.DOTALL,
)
_OPENS = frozenset({"Ps", "Pi", "Sc"})  # brackets, quotes and currency signs before a word


@dataclass(frozen=True)
class Word:
    """A word as written, at `text[start:end]` of the text that it was split from."""

    text: str
    start: int
    end: int


def has_han(text: str) -> bool:
    """Whether the text holds a Chinese character."""
    return _HAN.search(text) is not None


def language_of(text: str, *, default: str = "en") -> str:
    """The language of a text by its script, 'zh' or 'en'; `default` where it has neither.

    A Chinese character is weighed as much as a Latin word, since both are about a syllable or two.
    """
    han = len(_HAN.findall(text))
    latin = len(_LATIN_WORD.findall(_HAN.sub(" ", text)))
    if not han and not latin:
        return default
    return "zh" if han >= latin else "en"


def split_words(text: str) -> list[Word]:
    """Give the text's words in order; put together they are the text without its white space."""
    words: list[Word] = []
    for chunk in re.finditer(r"\S+", text):
        if has_han(chunk.group()):
            words.extend(_split_chinese(chunk.group(), chunk.start()))
        else:
            words.append(Word(chunk.group(), chunk.start(), chunk.end()))
    return words


def _split_chinese(chunk: str, offset: int) -> list[Word]:
    """Words of a chunk without white space; marks go with the word that they belong to."""
    words: list[Word] = []
    opened = 0  # how many marks wait for the word that they open
    for start, end, kind in _pieces(chunk):
        if kind == "opens":
            opened += 1
        elif kind == "closes" and words and not opened:
            last = words[-1]
            words[-1] = Word(last.text + chunk[start:end], last.start, offset + end)
        elif kind == "closes":
            opened += 1
        else:
            words.append(Word(chunk[start - opened : end], offset + start - opened, offset + end))
            opened = 0
    if opened:  # only marks were left: they end the last word
        last = words.pop()
        words.append(Word(chunk[last.start - offset :], last.start, offset + len(chunk)))
    return words


def _pieces(chunk: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) of what the chunk is made of; kind: word, opens or closes."""
    for match in _PIECE.finditer(chunk):
        start = match.start()
        if match.lastgroup == "han":
            import rjieba  # noqa: PLC0415 - 0.1 s for its dictionary; the aligner has paid it

            for word in rjieba.cut(match.group()):
                yield start, start + len(word), "word"
                start += len(word)
        elif match.lastgroup == "run":
            yield start, match.end(), "word"
        elif unicodedata.category(match.group()) in _OPENS:
            yield start, match.end(), "opens"
        else:
            yield start, match.end(), "closes"
