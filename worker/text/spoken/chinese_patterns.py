"""Pieces of the patterns of Chinese, and how a number that counts something is read."""

from __future__ import annotations

import re

from worker.text.spoken.chinese_tables import SIGNS
from worker.text.spoken.chinese_values import number_readings
from worker.text.spoken.patterns import NUMBER

START = r"(?<!\d)(?<!\d[.,])"
SIGN = (
    r"(?P<sign>(?<![A-Za-z\d)\].%°])"
    r"(?:[-−+](?=[\d$£€¥])|[±~≈≤≥] ?+|(?<![\w)] )(?<![\w)])[<>] ?+))?+"
)
DASH = r"\s?(?:[-–—~～]{1,2}|至|到)\s?"
ONE = rf"{SIGN}{START}(?P<low>{NUMBER})"
QUANTITY = rf"{ONE}(?:%?{DASH}(?P<high>{NUMBER}))?+"


def value_readings(number: str) -> list[str]:
    """Read a number that counts something."""
    said = [_with_two(one) for one in number_readings(number)]
    if len(number) == 4 and number.isdigit() and not number.startswith("0"):
        return [*said[1:], said[0]]
    return said


def _with_two(said: str) -> str:
    """两 before a large place: 两千, 两万; 二百 stays."""
    return f"两{said[1:]}" if said[:1] == "二" and said[1:2] in set("千万亿") else said


def quantity(match: re.Match[str]) -> list[str]:
    """Read `QUANTITY`: its sign, its number or its range."""
    low, high = value_readings(match["low"]), match.groupdict().get("high")
    said = (
        low if not high else [f"{a}到{b}" for a, b in zip(low, value_readings(high), strict=False)]
    )
    sign = sign_of(match)
    return [sign + one for one in said]


def sign_of(match: re.Match[str]) -> str:
    """The sign before a number, as it is said."""
    return SIGNS.get(match["sign"].strip(), "") if match["sign"] else ""
