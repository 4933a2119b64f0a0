"""How words are said otherwise than they are written: a map of written words to said ones.

A key is a whole word, or several with spaces; in writing without spaces (Chinese, Japanese, Korean)
it is any part of a text. A key in small letters alone is found in any case ("gif": GIF, Gif), one
with a capital letter only as it is written ("US" is not "us"). What is written in one case exactly
goes before what is found in any, and of several keys that begin at one place the longest counts.
The possessive is kept: "Nguyen's" is said as Nguyen is, and an s.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import regex

from worker.text.line import Replacement

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}"
_LETTER = rf"[[\w\p{{M}}]--[{_SPACELESS}]]"
# A word goes on behind an apostrophe ("don't", "O'Brien"), but for the s of a possessive.
_GOES_ON = regex.compile(rf"{_LETTER}|['’](?!s(?!{_LETTER})){_LETTER}", regex.V1 | regex.I)
_CAME_ON = regex.compile(rf"{_LETTER}['’]?$", regex.V1)
_EDGE = regex.compile(_LETTER, regex.V1)


def pronounce(text: str, pronunciations: Mapping[str, str]) -> tuple[Replacement, ...]:
    """What of a text is said otherwise, in order; the text has single spaces alone."""
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for written, said in pronunciations.items():
        key = " ".join(written.split())
        for form in (key, *(unicodedata.normalize(form, key) for form in ("NFC", "NFD"))):
            exact[form] = said
            if key == key.lower():
                folded[form] = said
    lengths = sorted({len(key) for key in exact}, reverse=True)
    firsts = {key[0] for key in exact}
    found: list[Replacement] = []
    place = 0
    while place < len(text):
        if text[place] in firsts or text[place].lower() in firsts:
            one = _found(text, place, lengths, exact, folded)
            if one is not None:
                found.append(one)
                place = one.end
                continue
        place += 1
    return tuple(found)


def _found(
    text: str,
    start: int,
    lengths: list[int],
    exact: Mapping[str, str],
    folded: Mapping[str, str],
) -> Replacement | None:
    """The longest key that stands here as a whole word."""
    for length in lengths:
        piece = text[start : start + length]
        said = exact.get(piece) or folded.get(piece.lower())
        if said is not None and len(piece) == length and _is_whole(text, start, start + length):
            return Replacement(start, start + length, said)
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on over these places."""
    begins = not _EDGE.match(text, start) or not _CAME_ON.search(text[max(0, start - 2) : start])
    ends = not _EDGE.match(text, end - 1) or not _GOES_ON.match(text, end)
    # A mark on its last letter makes that another one, in any writing.
    return begins and ends and not unicodedata.combining(text[end : end + 1] or "a")
