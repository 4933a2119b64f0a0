"""Symbols in English text that are said as words."""

from __future__ import annotations

import re
import unicodedata

from worker.text.spoken.english_values import in_words
from worker.text.spoken.passage import Passage, Rule, whole

# Said wherever they stand.
_ALWAYS = {
    "&": "and", "±": "plus or minus", "≈": "approximately", "≠": "is not equal to",
    "≤": "is at most", "≥": "is at least", "÷": "divided by", "×": "times", "√": "square root of",
    "∞": "infinity", "∑": "sum of", "π": "pi", "©": "copyright", "®": "registered",
    "™": "trademark", "°": "degrees", "№": "number", "§": "section", "¶": "paragraph", "→": "to",
    "%": "percent", "‰": "per mille", "$": "dollars", "€": "euros", "£": "pounds", "¥": "yen",
    "@": "at", "℃": "degrees Celsius", "℉": "degrees Fahrenheit", "Ω": "ohms",
}  # fmt: skip
# Said between spaces, or between what is added and compared.
_BETWEEN = {"+": "plus", "=": "equals", "<": "is less than", ">": "is greater than", "−": "minus"}
_SYMBOL = re.compile(f"[{re.escape(''.join(_ALWAYS))}]")
_OPERATOR = re.compile(
    r"(?<=[\w)%] )(?P<sign>[+=<>−])(?= [\w($£€-])|(?<=[\w)])(?P<close>[+=])(?=[\w(])"
)
_HYPHEN = re.compile(r"(?<=\d) - (?=\d)")
_AFTER_LETTER = re.compile(r"(?<=[A-Za-z])(?P<sign>\+{1,2}|#)(?![\w+#])")
_HASHTAG = re.compile(r"(?<![\w&/])#(?=[^\W\d_])")
_POWER = re.compile(r"(?<=[\w)])(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15}|\^(?P<plain>\d{1,3})(?!\d))")
_JOINT = re.compile(r"(?<=[\dmM%°])(?P<dash>[-–—]|[ ][–—][ ])(?=[$£€¥]?\d)")
_PER = re.compile(
    r"(?<=[\dkKmMn])/(?=(?:hour|hr|day|week|month|year|yr|person|night|kg|lb|mile|km|minute|second"
    r"|user|unit|item|piece|head)\b)"
)
# Digits that are no plain ones: circled, raised, lowered.
_ODD_DIGIT = re.compile(r"[^\W\d_](?<![A-Za-z])|[²³¹⁰-₉①-⒛⓪-⓿❶-➓]")


def _per(match: re.Match[str]) -> Passage:
    return whole(match, [" per "])


def _symbol(match: re.Match[str]) -> Passage:
    return whole(match, [_ALWAYS[match.group()]])


def _operator(match: re.Match[str]) -> Passage:
    return whole(match, [_BETWEEN[match["sign"] or match["close"]]])


def _after_letter(match: re.Match[str]) -> Passage:
    said = {"+": "plus", "++": "plus plus", "#": "sharp"}[match["sign"]]
    return whole(match, [said])


def _hashtag(match: re.Match[str]) -> Passage:
    return whole(match, ["hashtag "])


def _power(match: re.Match[str]) -> Passage:
    raised = match["raised"]
    number = int(match["plain"] or "".join(str(unicodedata.digit(char)) for char in raised))
    if number in {2, 3}:
        return whole(match, ["squared" if number == 2 else "cubed"])
    return whole(match, [f"to the power of {in_words(number)}"])


def _joint(match: re.Match[str]) -> Passage:
    return whole(match, [" to "])


def _odd_digit(match: re.Match[str]) -> Passage | None:
    char = match.group()
    value = unicodedata.numeric(char, None)
    if value is None or value != int(value) or not char.isdigit():
        return None
    return whole(match, [in_words(int(value))])


POWERS = (Rule(_POWER, _power),)
SYMBOLS = (
    Rule(_AFTER_LETTER, _after_letter),
    Rule(_HASHTAG, _hashtag),
    Rule(_JOINT, _joint),
    Rule(_PER, _per),
    Rule(_OPERATOR, _operator),
    Rule(_SYMBOL, _symbol),
)
ODD_DIGITS = (Rule(_ODD_DIGIT, _odd_digit),)
