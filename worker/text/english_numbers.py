"""Whole numbers in English words: by num2words, without the other languages that it imports."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Literal

from worker.stand_ins import StandIns

Kind = Literal["cardinal", "ordinal", "year"]


def in_words(number: int, kind: Kind = "cardinal") -> str:
    """Say a number as num2words does: "one hundred and five", "one hundred and fifth"."""
    words: str = getattr(load_english(), f"to_{kind}")(number)
    return words


@cache
def load_english() -> Any:
    """num2words' English converter; its package's own __init__ is not run."""
    StandIns("num2words", {}, bare=True).install()
    return import_module("num2words.lang_EN").Num2Word_EN()
