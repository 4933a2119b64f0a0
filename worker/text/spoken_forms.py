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
from worker.text.words import has_han

MAX_READINGS = 6  # of one word; the aligner tries each of them
_MAX_DIGITS = 15  # a longer number is read digit by digit

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
_ENGLISH_CURRENCY = {
    "$": ("dollar", "dollars", "cents"),
    "£": ("pound", "pounds", "pence"),
    "€": ("euro", "euros", "cents"),
    "¥": ("yen", "yen", ""),
    "￥": ("yuan", "yuan", ""),
}
_CHINESE_MARKS = {"+": "加", "=": "等于"}
_CHINESE_CURRENCY = {"$": "美元", "£": "英镑", "€": "欧元", "¥": "元", "￥": "元"}
_CHINESE_DIGITS = "零一二三四五六七八九"


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
        return _english_time(int(time["hours"]), int(time["minutes"]))
    if amount := _AMOUNT.fullmatch(core):
        number, sign = amount["before"] or amount["after"], amount["sign"] or amount["behind"]
        return _english_amount(number, sign)
    if percent := _PERCENT.fullmatch(core):
        return [f"{number} percent" for number in _english_number(percent["number"])]
    if word.startswith(("-", "−")) and re.fullmatch(_NUMBER, core):
        return [f"{sign} {n}" for n in _english_number(core)[:2] for sign in ("minus", "negative")]
    return _english_ending(core) or _in_parts(core)


def _english_ending(word: str) -> list[str]:
    """Read an ordinal or a decade, numbers with an ending of their own; other words give none."""
    if ordinal := _ORDINAL.fullmatch(word):
        return _with_and(in_words(int(ordinal["number"]), "ordinal"))
    if decade := _DECADE.fullmatch(word):
        year = in_words(int(decade["year"]), "year")
        return [year[:-1] + "ies" if year.endswith("y") else year + "s"]
    return []


def _in_parts(word: str) -> list[str]:
    """Each number, run of letters and mark of the word by itself ("COVID-19", "3D", "555-0199")."""
    choices: list[list[str]] = []
    for part in _PART.finditer(word):
        if part["number"]:
            choices.append(_english_number(part["number"])[:3])
        else:
            choices.append([_ENGLISH_MARKS.get(part.group(), part.group())])
    if sum(len(choice) > 1 for choice in choices) > 2:  # too many ways: the likeliest of each
        choices = [choice[:1] for choice in choices]
    return [" ".join(parts) for parts in product(*choices)]


def _english_number(number: str) -> list[str]:
    """Read a number without sign: as a year, as a number, digit by digit."""
    digits = number.replace(",", "")
    whole, _, fraction = digits.partition(".")
    if len(whole) > _MAX_DIGITS:
        return _english_digits(digits)
    if fraction:
        decimals = " ".join(_english_digits(fraction)[0].split())
        return [f"{head} point {decimals}" for head in _with_and(in_words(int(whole)))]
    if whole.startswith("0") and len(whole) > 1:
        return _english_digits(whole)
    cardinal = _with_and(in_words(int(whole)))
    if len(whole) == 4 and "," not in number and 1100 <= int(whole) <= 2099:
        year = in_words(int(whole), "year").replace("oh-", "oh ")
        halves = f"{in_words(int(whole[:2]))} {in_words(int(whole[2:]))}"
        return [year, *cardinal, halves]
    return cardinal if len(whole) < 3 else [*cardinal, *_english_digits(whole)]


def _english_digits(digits: str) -> list[str]:
    """Digit by digit; a nought is "zero" or "oh", a point is "point"."""
    names = ["point" if digit == "." else in_words(int(digit)) for digit in digits]
    return [" ".join(names), " ".join("oh" if name == "zero" else name for name in names)]


def _with_and(number: str) -> list[str]:
    """British and American: "one hundred and five", "one hundred five"."""
    return [number, number.replace(" and ", " ")]


def _english_time(hours: int, minutes: int) -> list[str]:
    hour = in_words(hours)
    if not minutes:
        return [f"{hour} o'clock", hour, f"{hour} hundred"]
    if minutes < 10:
        return [f"{hour} oh {in_words(minutes)}", f"{hour} zero {in_words(minutes)}"]
    return [f"{hour} {in_words(minutes)}"]


def _english_amount(number: str, sign: str) -> list[str]:
    one, many, small = _ENGLISH_CURRENCY[sign]
    whole, _, fraction = number.partition(".")
    plain = [f"{n} {one if number == '1' else many}" for n in _english_number(number)[:2]]
    if len(fraction) != 2 or not small:
        return plain
    head = f"{in_words(int(whole.replace(',', '')))} {one if whole == '1' else many}"
    if fraction == "00":
        return [head, *plain]
    tail = in_words(int(fraction))
    return [f"{head} {tail} {small}", f"{head} and {tail} {small}", f"{head} {tail}", *plain]


def _chinese(word: str) -> list[str]:
    """Each number of the word as a number and digit by digit, its sign where Chinese says it."""
    choices: list[list[str]] = []
    for part in _CHINESE_PART.finditer(word):
        if part["hours"]:
            choices.append(_chinese_time(int(part["hours"]), int(part["minutes"])))
        elif part["percent"]:
            choices.append([f"百分之{number}" for number in _chinese_number(part["percent"])])
        elif part["number"]:
            currency = _CHINESE_CURRENCY.get(part["sign"] or part["behind"] or "", "")
            choices.append([number + currency for number in _chinese_number(part["number"])])
        else:
            choices.append([_CHINESE_MARKS.get(part.group(), part.group())])
    if sum(len(choice) > 1 for choice in choices) > 2:  # too many ways: the likeliest of each
        choices = [choice[:1] for choice in choices]
    return ["".join(parts) for parts in product(*choices)]


def _chinese_time(hours: int, minutes: int) -> list[str]:
    hour = "两点" if hours == 2 else f"{_chinese_cardinal(hours)}点"
    if not minutes:
        return [hour, f"{hour}整"]
    number = ("零" if minutes < 10 else "") + _chinese_cardinal(minutes)
    half = [f"{hour}半"] if minutes == 30 else []
    return [f"{hour}{number}分", f"{hour}{number}", *half]


def _chinese_number(number: str) -> list[str]:
    """Read a number without sign; a year's digits one by one first."""
    digits = number.replace(",", "")
    whole, _, fraction = digits.partition(".")
    spelled = "".join("点" if d == "." else _CHINESE_DIGITS[int(d)] for d in digits)
    if len(whole) > _MAX_DIGITS or (whole.startswith("0") and len(whole) > 1):
        return [spelled]
    decimals = "点" + "".join(_CHINESE_DIGITS[int(digit)] for digit in fraction) if fraction else ""
    cardinal = _chinese_cardinal(int(whole))
    spoken = [cardinal + decimals]
    colloquial = re.sub("(?<!十)二(?=[百千万亿])", "两", cardinal)
    if whole == "2" and not fraction:
        colloquial = "两"
    if colloquial != cardinal:
        spoken.append(colloquial + decimals)
    if len(whole) < 3 or fraction:
        return spoken
    return [spelled, *spoken] if len(digits) == 4 and "," not in number else [*spoken, spelled]


def _chinese_cardinal(value: int) -> str:
    """Give the numeral of 0 <= value < 10**16, by groups of four digits: 万, 亿, 万亿."""
    if value == 0:
        return "零"
    groups: list[int] = []
    while value:
        value, group = divmod(value, 10_000)
        groups.append(group)
    spoken = ""
    gap = False  # a nought is to be said before the next digit
    for power in reversed(range(len(groups))):
        for place in (3, 2, 1, 0):
            digit = groups[power] // 10**place % 10
            if digit:
                spoken += "零" * gap + _CHINESE_DIGITS[digit] + ("", "十", "百", "千")[place]
            gap = bool(spoken) and not digit
        if groups[power]:
            spoken += ("", "万", "亿", "万")[power]
        elif power == 2 and spoken:
            spoken += "亿"
    return spoken.removeprefix("一") if spoken.startswith("一十") else spoken
