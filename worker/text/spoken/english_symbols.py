"""Symbols in English text that are said as words."""

from __future__ import annotations

import re
import unicodedata

from worker.text.spoken.english_values import in_words, quantity_readings
from worker.text.spoken.passage import Passage, Rule, whole
from worker.text.spoken.patterns import END, START

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
_AFTER_LETTER = re.compile(
    r"(?<=[A-Za-z])(?P<sign>\+{1,2}|#)(?![\w+#])|(?<=\bC)(?P<of_c>\+\+)(?=\d)"
)
_HASHTAG = re.compile(r"(?<![\w&/])#(?=[^\W\d_])")
_RAISED = r"(?:(?P<raised>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,15})|\^(?P<plain>[-−]?\d{1,3})(?!\d))"
_POWER = re.compile(rf"(?<=[\w)]){_RAISED}")
_POWER_OF_NUMBER = re.compile(rf"{START}(?P<low>\d++){_RAISED}{END}")
_E_NOTATION = re.compile(rf"{START}(?P<low>\d++(?:\.\d++)?)[eE](?P<plain>[-+−]?\d{{1,3}}){END}")
_AFTER_NUMBER = re.compile(r"(?<=\d)\+(?![\w+])|(?<=\d )[*/](?= \d)")
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
    said = {"+": "plus", "++": "plus plus", "#": "sharp"}[match.group()]
    return whole(match, [said])


def _after_number(match: re.Match[str]) -> Passage:
    return whole(match, [{"+": "plus", "*": "times", "/": "divided by"}[match.group()]])


def _hashtag(match: re.Match[str]) -> Passage:
    return whole(match, ["hashtag "])


def _power(match: re.Match[str]) -> Passage:
    return whole(match, [_to_the_power(match)])


def _to_the_power(match: re.Match[str]) -> str:
    plain = match["plain"] or unicodedata.normalize("NFKC", match["raised"])
    number = int(plain.replace("−", "-"))
    if number in {2, 3}:
        return "squared" if number == 2 else "cubed"
    return f"to the power of {'minus ' if number < 0 else ''}{in_words(abs(number))}"


def _power_of_number(match: re.Match[str]) -> Passage:
    return whole(match, [f"{quantity_readings(match['low'])[0]} {_to_the_power(match)}"])


def _e_notation(match: re.Match[str]) -> Passage | None:
    """Read 1e-5; without a sign or a point it may be a name, such as a room's."""
    power = match["plain"].replace("−", "-")
    if power.isdigit() and "." not in match["low"]:
        return None
    minus = "minus " if power.startswith("-") else ""
    said = f"{minus}{in_words(abs(int(power)))}"
    return whole(
        match, [f"{n} times ten to the power of {said}" for n in quantity_readings(match["low"])]
    )


def _joint(match: re.Match[str]) -> Passage:
    return whole(match, [" to "])


def _odd_digit(match: re.Match[str]) -> Passage | None:
    char = match.group()
    value = unicodedata.numeric(char, None)
    if value is None or value != int(value) or not char.isdigit():
        return None
    return whole(match, [in_words(int(value))])


POWERS_OF_NUMBERS = (
    Rule(_POWER_OF_NUMBER, _power_of_number),
    Rule(_E_NOTATION, _e_notation),
)
POWERS = (Rule(_POWER, _power),)
SYMBOLS = (
    Rule(_AFTER_LETTER, _after_letter),
    Rule(_AFTER_NUMBER, _after_number),
    Rule(_HASHTAG, _hashtag),
    Rule(_JOINT, _joint),
    Rule(_PER, _per),
    Rule(_OPERATOR, _operator),
    Rule(_SYMBOL, _symbol),
)
ODD_DIGITS = (Rule(_ODD_DIGIT, _odd_digit),)
