"""A text in plain characters, each at the place of the one that it stands for."""

from __future__ import annotations

import re
import unicodedata

_ODD = re.compile(r"[^\x00-\x7f]")
# Full-width forms of ASCII; the yen's and won's signs have others.
# 1.000,50, as in most of Europe.
_POINTS_AND_COMMA = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3})+,\d{1,2}(?![\w]|[.,]\d)")
_SWAPPED = str.maketrans(".,", ",.")
_WIDE, _WIDE_END, _WIDE_SHIFT = 0xFF01, 0xFF5E, 0xFEE0
_SIGNS = {"￥": "¥", "\u3000": " "}
_THIN = frozenset("\u00a0\u2009\u202f")  # may part thousands: 10 000
_KEPT = frozenset("，：；！？（）")  # of Chinese text: no part of a number


def plain(text: str) -> str:
    """Give the text with digits, letters and signs in their ASCII forms; of the same length.

    Chinese punctuation stays, but for a colon between digits: 10：30.
    """
    same = _ODD.sub(lambda match: _plain_char(match.group(), text, match.start()), text)
    return _POINTS_AND_COMMA.sub(lambda match: match.group().translate(_SWAPPED), same)


def _plain_char(char: str, text: str, at: int) -> str:
    if char in _KEPT:
        between = text[at - 1 : at].isdecimal() and text[at + 1 : at + 2].isdecimal()
        return ":" if between and char == "：" else char
    if char in _THIN:
        return "," if _parts_thousands(text, at) else " "
    if char in _SIGNS:
        return _SIGNS[char]
    if _WIDE <= ord(char) <= _WIDE_END:
        return chr(ord(char) - _WIDE_SHIFT)
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return char


def _parts_thousands(text: str, at: int) -> bool:
    behind = text[at + 1 : at + 5]
    return (
        text[at - 1 : at].isdecimal()
        and len(behind) > 2
        and behind[:3].isdecimal()
        and not behind[3:].isdecimal()
    )
