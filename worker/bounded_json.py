"""A bound for JSON from where others may write: its values are counted before it is parsed.

A JSON value of two bytes becomes an object of a hundred, and the error about it one of a thousand.
So the bytes alone bound nothing: three million of them have cost more than a gigabyte.
"""

from __future__ import annotations

import re

# A whole string or one that the end cuts off. Possessive, so that no text is looked at twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
QUOTES_A_VALUE = 4  # its own, its name's, and some within a text
LISTS_MAX = 16  # more than any of these files has


def check_json(content: bytes, *, objects: int, values: int, lists: int = LISTS_MAX) -> bytes:
    """Give JSON back if it can hold no more objects and lists, nor values in all, than these.

    To be called before a parser. Raises ValueError. Costs no more than a copy of the bytes.
    """
    # Else taking the strings out would cost as much as parsing.
    if content.count(b'"') > QUOTES_A_VALUE * values:
        raise ValueError("there are too many strings")
    structure = _STRING.sub(b"", content)
    counts = structure.count(b"{"), structure.count(b",") + 1, structure.count(b"[")
    if any(count > most for count, most in zip(counts, (objects, values, lists), strict=True)):
        raise ValueError("{} objects, {} values and {} lists are too many".format(*counts))
    return content
