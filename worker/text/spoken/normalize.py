"""A sentence as it is said: its numbers, amounts, dates, addresses and symbols in words."""

from __future__ import annotations

from typing import Literal

from worker.text.line import Replacement
from worker.text.spoken.passages import passages

Normalize = Literal["auto", "on", "off"]


def replacements(text: str, language: str, normalize: Normalize) -> tuple[Replacement, ...]:
    """What of a sentence in 'en' or 'zh' is said in other words than it is written.

    `auto` leaves what may be meant in several ways to the model; `on` takes the likeliest.
    """
    if normalize == "off":
        return ()
    found: list[Replacement] = []
    for passage in passages(text, language):
        if not passage.sure and normalize == "auto":
            continue
        for (start, end), said in zip(passage.spans, passage.readings[0], strict=True):
            if said != text[start:end]:
                found.append(Replacement(start, end, said))
    return tuple(found)
