"""A controlled voice, in the words that upstream's command line uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gender = Literal["female", "male"]
Level = Literal["very_low", "low", "moderate", "high", "very_high"]


@dataclass(frozen=True)
class Style:
    """Three labels, and the model's own finer numbers where they are to be forced."""

    gender: Gender = "female"
    pitch: Level = "moderate"
    speed: Level = "moderate"
    pitch_value: int | None = None  # mel, 0 to 1000
    speed_value: int | None = None  # 0 to 10
