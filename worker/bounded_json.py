"""What is read back from where others may write: counted before it is parsed.

A JSON value of two bytes becomes an object of a hundred, and the error about it one of a thousand.
So the bytes alone bound nothing: three million of them have cost more than a gigabyte.
"""

from __future__ import annotations

import re

# A whole string or one that the end cuts off. Possessive, so that no text is looked at twice.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
QUOTES = 4  # for each value: its own, its name's, and some within a text
LISTS = 16  # more than any of these files has


def check_json(content: bytes, *, objects: int, values: int) -> bytes:
    """Give back JSON that can hold no more objects, and no more values in all, than these.

    To be asked before a parser is. Raises ValueError. Costs no more than a copy of the bytes.
    """
    if content.count(b'"') > QUOTES * values:  # else to take the strings out would cost as much
        raise ValueError("there are too many strings")
    structure = _STRING.sub(b"", content)
    counts = structure.count(b"{"), structure.count(b",") + 1, structure.count(b"[")
    if any(count > most for count, most in zip(counts, (objects, values, LISTS), strict=True)):
        raise ValueError("{} objects, {} values and {} lists are too many".format(*counts))
    return content
