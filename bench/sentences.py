"""Sentences to speak."""

from __future__ import annotations

import random

from tests.support.random_checkpoint import CORPUS


def sentences(count: int) -> list[str]:
    """Different ones of the same kind, the same in each run."""
    words = sorted({word.strip(".,;:").lower() for line in CORPUS for word in line.split()})
    chosen = random.Random(0)
    return [" ".join(chosen.sample(words, 10)).capitalize() + "." for _ in range(count)]
