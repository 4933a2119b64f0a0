"""Pieces of the patterns of both languages.

Each begins at a number's first digit alone, and never gives back what it took: so the time that a
search takes is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = r"(?:\d{1,3}(?:,\d{3})++(?!\d)(?:\.\d++)?|\d++(?:\.\d++)?)"
START = r"(?<![^\W_])(?<!\d[.,])"
DASH = r"\s?[-–—~]\s?"
SIGN = r"(?P<sign>(?<![\w)\].,%°+])(?:[-−+](?=[\d$£€¥])|[±~≈≤≥] ?+|(?<![\w)] )[<>] ?+))?+"
# One number, or two that are the ends of a range, with a sign before.
QUANTITY = (
    rf"{SIGN}{START}(?P<low>{NUMBER})"
    rf"(?:%?{DASH}(?P<high>(?<![^\W_]){NUMBER}))?+"
)
END = r"(?![^\W_])"  # no letter or digit behind


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of these words, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))
