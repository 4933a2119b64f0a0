"""A sentence as it is said: its numbers, amounts, dates, addresses and symbols in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from worker.text.line import Replacement
from worker.text.spoken.passages import passages
from worker.text.words import has_han

Normalize = Literal["auto", "on", "off"]


def replacements(text: str, language: str, normalize: Normalize) -> tuple[Replacement, ...]:
    """What of a sentence in 'en' or 'zh' is said in other words than it is written.

    `auto` leaves what may be meant in several ways to the model; `on` takes the likeliest.
    """
    if normalize == "off":
        return ()
    first = (
        Replacement(start, end, said)
        for passage in passages(text, language)
        if passage.sure or normalize == "on"
        for (start, end), said in zip(passage.spans, passage.readings[0], strict=True)
        if said != text[start:end]
    )
    return tuple(_apart(text, first))


def _apart(text: str, found: Iterable[Replacement]) -> Iterator[Replacement]:
    """Put a space where what is said would run into a word beside it: IPv6 is "IPv six"."""
    done, last = 0, ""
    for one in found:
        left = text[one.start - 1] if one.start > done else last
        before = " " if _is_latin(left) and _is_latin(one.said[:1]) else ""
        after = " " if _is_latin(text[one.end : one.end + 1]) and _is_latin(one.said[-1:]) else ""
        said = f"{before}{one.said}{after}"
        yield Replacement(one.start, one.end, said)
        done, last = one.end, said[-1:] or left


def _is_latin(char: str) -> bool:
    return char.isalnum() and not has_han(char)
