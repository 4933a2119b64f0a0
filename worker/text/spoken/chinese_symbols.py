"""Symbols in Chinese text that are said as words."""

from __future__ import annotations

import re
import unicodedata

from worker.text.spoken.chinese_tables import SYMBOLS
from worker.text.spoken.chinese_values import cardinal
from worker.text.spoken.passage import Passage, Rule, whole

_SUM = re.compile(
    r"(?<=[\d)]) ?(?P<sign>[-−+×÷*/=]) ?(?=[\d(-])"
    r"|(?<=[\u4e00-\u9fffA-Za-z\d] )(?P<alone>[+=])(?= [\u4e00-\u9fffA-Za-z\d])"
)
_TILL = re.compile(r"(?<=\d:\d\d) ?[-–—~] ?(?=\d{1,2}:\d\d)")
_SUMS = {
    "-": "减",
    "−": "减",
    "+": "加",
    "×": "乘以",
    "÷": "除以",
    "*": "乘以",
    "/": "除以",
    "=": "等于",
}
_SYMBOL = re.compile(f"[{re.escape(''.join(SYMBOLS))}]")
_HASH = re.compile(r"#(?=\d)")
_POWER = re.compile(r"(?<=[\w)])(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15})")
_ODD_DIGIT = re.compile(r"[²³¹⁰-₉①-⒛⓪-⓿❶-➓]|[^\x00-\x7f\u4e00-\u9fff](?<=[^\W_])")


def _till(match: re.Match[str]) -> Passage:
    return whole(match, ["到"])


def _sum(match: re.Match[str]) -> Passage:
    return whole(match, [_SUMS[match["sign"] or match["alone"]]])


def _symbol(match: re.Match[str]) -> Passage:
    return whole(match, [SYMBOLS[match.group()]])


def _hash(match: re.Match[str]) -> Passage:
    return whole(match, ["第"])


def _power(match: re.Match[str]) -> Passage:
    number = int("".join(str(unicodedata.digit(char)) for char in match["raised"]))
    said = {2: "平方", 3: "立方"}.get(number) or f"的{cardinal(number)}次方"
    return whole(match, [said])


def _odd_digit(match: re.Match[str]) -> Passage | None:
    char = match.group()
    value = unicodedata.numeric(char, None)
    if value is None or value != int(value) or not char.isdigit():
        return None
    return whole(match, [cardinal(int(value))])


SYMBOLS_SAID = (
    Rule(_TILL, _till),
    Rule(_SUM, _sum),
    Rule(_HASH, _hash),
    Rule(_POWER, _power),
    Rule(_SYMBOL, _symbol),
)
ODD_DIGITS = (Rule(_ODD_DIGIT, _odd_digit),)
