"""Spoken forms of a written word: its numbers, amounts, times and symbols in words.

An aligner knows letters (English) or characters (Chinese) only. A written number can be spoken in
several ways, and only the audio tells which it was: `readings` gives the likely ones, and the
aligner takes the one that fits best.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import product

from worker.text.english_numbers import in_words
from worker.text.spoken import chinese_values, english_values
from worker.text.words import has_han

MAX_READINGS = 6  # of one word; the aligner tries each of them

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_TIME = re.compile(r"(?P<hours>[01]?\d|2[0-4]):(?P<minutes>[0-5]\d)")
_AMOUNT = re.compile(
    rf"(?P<sign>[$£€¥￥])(?P<before>{_NUMBER})|(?P<after>{_NUMBER})(?P<behind>[$£€¥￥])"
)
_PERCENT = re.compile(rf"(?P<number>{_NUMBER})[%％]")
_ORDINAL = re.compile(r"(?P<number>\d{1,15})(?:st|nd|rd|th)", re.IGNORECASE)
_DECADE = re.compile(r"(?P<year>1[1-9]\d0|20\d0)['’]?s", re.IGNORECASE)
_CHINESE_PART = re.compile(
    rf"{_TIME.pattern}|(?P<percent>{_NUMBER})[%％]"
    rf"|(?P<sign>[$£€¥￥])?(?P<number>{_NUMBER})(?P<behind>[$£€¥￥])?|(?P<mark>.)"
)
_PART = re.compile(rf"(?P<number>{_NUMBER})|(?P<letters>[^\W\d_]+(?:['’][^\W\d_]+)*)|(?P<mark>.)")

_ENGLISH_MARKS = {"%": "percent", "&": "and", "+": "plus", "=": "equals", "@": "at"}
_CHINESE_MARKS = {"+": "加", "=": "等于"}
_CHINESE_CURRENCY = {"$": "美元", "£": "英镑", "€": "欧元", "¥": "元", "￥": "元"}


def readings(word: str, language: str) -> tuple[str, ...]:
    """The readings of `word` in 'en' or 'zh', likeliest first, at most MAX_READINGS.

    A reading holds letters, apostrophes and single spaces only. The empty tuple means that nothing
    of the word is spoken: punctuation, an emoji.
    """
    # NFKC would make a yen's sign, ¥, of the wide one that stands for the yuan.
    plain = "￥".join(unicodedata.normalize("NFKC", part) for part in word.split("￥"))
    plain = plain.replace("’", "'")
    if not any(char.isdigit() for char in plain):
        spoken = [_letters_and_marks(plain, language)]
    elif language == "zh" or has_han(plain):
        spoken = _chinese(plain)
    else:
        spoken = _english(plain)
    return tuple(dict.fromkeys(r for r in map(_tidy, spoken) if r))[:MAX_READINGS]


def _tidy(reading: str) -> str:
    """Letters and apostrophes, single spaces."""
    kept = "".join(char if char.isalpha() or char == "'" else " " for char in reading)
    return " ".join(part for part in kept.split() if part.strip("'"))


def _letters_and_marks(word: str, language: str) -> str:
    """Speak the marks of the word where they stand alone or between letters ("AT&T")."""
    marks = _CHINESE_MARKS if language == "zh" else _ENGLISH_MARKS
    core = word.strip("".join(c for c in set(word) if c not in marks and not c.isalpha()))
    return "".join(f" {marks[char]} " if char in marks else char for char in core)


def _english(word: str) -> list[str]:
    core = re.sub(r"^[^\w$£€¥￥]+|[^\w%％$£€¥￥]+$", "", word)
    if time := _TIME.fullmatch(core):
        return english_values.time_readings(int(time["hours"]), int(time["minutes"]))
    if amount := _AMOUNT.fullmatch(core):
        number, sign = amount["before"] or amount["after"], amount["sign"] or amount["behind"]
        return english_values.amount_readings(number, sign)
    if percent := _PERCENT.fullmatch(core):
        return [f"{number} percent" for number in english_values.number_readings(percent["number"])]
    if word.startswith(("-", "−")) and re.fullmatch(_NUMBER, core):
        return [
            f"{sign} {n}"
            for n in english_values.number_readings(core)[:2]
            for sign in ("minus", "negative")
        ]
    return _english_ending(core) or _in_parts(core)


def _english_ending(word: str) -> list[str]:
    """Read an ordinal or a decade, numbers with an ending of their own; other words give none."""
    if ordinal := _ORDINAL.fullmatch(word):
        return english_values.with_and(in_words(int(ordinal["number"]), "ordinal"))
    if decade := _DECADE.fullmatch(word):
        year = in_words(int(decade["year"]), "year")
        return [year[:-1] + "ies" if year.endswith("y") else year + "s"]
    return []


def _in_parts(word: str) -> list[str]:
    """Each number, run of letters and mark of the word by itself ("COVID-19", "3D", "555-0199")."""
    choices: list[list[str]] = []
    for part in _PART.finditer(word):
        if part["number"]:
            choices.append(english_values.number_readings(part["number"])[:3])
        else:
            choices.append([_ENGLISH_MARKS.get(part.group(), part.group())])
    if sum(len(choice) > 1 for choice in choices) > 2:  # too many ways: the likeliest of each
        choices = [choice[:1] for choice in choices]
    return [" ".join(parts) for parts in product(*choices)]


def _chinese(word: str) -> list[str]:
    """Each number of the word as a number and digit by digit, its sign where Chinese says it."""
    choices: list[list[str]] = []
    for part in _CHINESE_PART.finditer(word):
        if part["hours"]:
            choices.append(chinese_values.time_readings(int(part["hours"]), int(part["minutes"])))
        elif part["percent"]:
            choices.append(
                [f"百分之{number}" for number in chinese_values.number_readings(part["percent"])]
            )
        elif part["number"]:
            currency = _CHINESE_CURRENCY.get(part["sign"] or part["behind"] or "", "")
            choices.append(
                [number + currency for number in chinese_values.number_readings(part["number"])]
            )
        else:
            choices.append([_CHINESE_MARKS.get(part.group(), part.group())])
    if sum(len(choice) > 1 for choice in choices) > 2:  # too many ways: the likeliest of each
        choices = [choice[:1] for choice in choices]
    return ["".join(parts) for parts in product(*choices)]
