"""English numbers that are no amounts: of telephones, cards, versions, names; ordinals; parts."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from itertools import product

from worker.text.spoken.english_amounts import quantity
from worker.text.spoken.english_dates import plural
from worker.text.spoken.english_values import (
    code_readings,
    digit_readings,
    fraction_words,
    in_words,
    number_readings,
    ordinal_readings,
    quantity_readings,
    with_and,
)
from worker.text.spoken.passage import Passage, Reading, Rule, in_places, whole
from worker.text.spoken.patterns import END, QUANTITY, START

_NO_NUMBER_BEFORE = r"(?<![\w+])(?<!\d[-., ])"
_TELEPHONE = re.compile(
    rf"{_NO_NUMBER_BEFORE}(?:\+\d{{1,3}}(?:[ .-]?\(?\d{{1,5}}\)?){{1,6}}"
    r"|(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}"
    r"|\d{3}-\d{4}|0\d{2,4}[ -]\d{3,4}(?:[ -]?\d{3,4})?)(?!\w|[-.,]\d)"
)
_CARD = re.compile(
    rf"{_NO_NUMBER_BEFORE}(?:\d{{4}}(?:[ -]\d{{4}}(?!\d)){{2,}}+|\d{{4}}[ -]\d{{6}}[ -]\d{{5}}"
    r"|\d{3}-\d{2}-\d{4}|\d{5}-\d{4}|\d{1,7}(?:-\d{1,7}){3,7}|\d(?:-\d){2})(?![\w-])"
)
_VERSION = re.compile(
    r"(?<![\w.])(?:(?P<v>[vV])(?:er\.? ?)?\.?(?P<of_v>\d{1,9}(?:\.\d{1,9}){0,5})"
    r"|(?P<parts>\d{1,9}(?:\.\d{1,9}){2,7}))(?P<rest>(?:-?(?:alpha|beta|rc)\.?\d{0,3})?)(?!\w|\.\w)"
)
_VERSION_BEFORE = re.compile(r"(?<!\w)[Vv]ersion $")
_ORDINAL = re.compile(
    rf"{START}(?P<number>\d{{1,3}}(?:,\d{{3}})+|\d{{1,15}})(?:st|nd|rd|th|ST|ND|RD|TH)(?!\w)"
)
_VULGAR = "".join(chr(code) for code in (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F)))
_WITH_VULGAR = re.compile(rf"(?:{START}(?P<whole>\d{{1,15}}) ?)?(?P<part>[{_VULGAR}])")
_FRACTION = re.compile(
    rf"{START}(?:(?P<whole>\d{{1,3}})[ -](?=\d{{1,2}}/\d))?"
    rf"(?P<top>\d{{1,3}})[/⁄](?P<bottom>\d{{1,3}})"
    r"(?P<th>th|ths|rd|rds|nd)?(?![\w/]|[.,]\d)"
)
_RATIO = re.compile(rf"{START}(?P<low>\d{{1,4}}):(?P<high>\d{{1,4}}){END}(?![:.]\d)")
_OUT_OF = re.compile(rf"{START}(?P<low>\d{{1,3}}\.\d{{1,2}})/(?P<high>\d{{1,3}}){END}(?!/)")
_FIXED = {"24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty"}
_WORD = re.compile(r"(?<![^\W_])(?<!\d\.)[^\W_](?:[^\W_]|[-’'](?=[^\W_])|(?<=\d)\.(?=\d))*+")
_OF_WORD = re.compile(r"(?<=\d)\.\d+|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|-")
_SEVERAL = re.compile(r"[A-Za-z]-\d+s$")  # B-52s
_VARIABLE = re.compile(r"[a-z]-\d+")  # n-1: less one; F-16 is a name
_PLAIN = re.compile(rf"{QUANTITY}{END}")
_THOUSANDS = re.compile(rf"{START}\d{{1,3}}(?:(?: 000)++|(?:['’]\d{{3}})++){END}")
_POINT = re.compile(r"(?<![\w.,])\.(?P<digits>\d{1,30})(?!\w)")
_DIGITS = re.compile(r"\d+")
_PART_OF = re.compile(
    r" (?:of|cups?|teaspoons?|tablespoons?|tsp|tbsp|inch(?:es)?|miles?|hours?|pounds?|full|majority"
    r"|the|as|time)\b"
)
_SPELLED_AFTER = re.compile(
    r"\b(?:code|zip|pin|password|flight|room|extension|ext|account|serial|id|order|invoice|model"
    r"|dial|call|text|press|bus|route|highway|interstate|channel|tracking|reference|ticket|case"
    r"|number is|phone|tel|fax)\.?:? ?#?$",
    re.IGNORECASE,
)
_INITIAL = re.compile(r"(?<!\w)[A-Z]\.$")
_DIALLED = re.compile(r"\b(?:dial|call|text|press|pin|code) $", re.IGNORECASE)


def _telephone(match: re.Match[str]) -> Passage | None:
    if not 7 <= sum(char.isdigit() for char in match.group()) <= 17:
        return None
    return _in_groups(match)


def _in_groups(match: re.Match[str]) -> Passage:
    """Digit by digit, with a pause between two groups."""
    chunks = list(re.finditer(r"\S+", match.group()))
    spans = [(match.start() + c.start(), match.start() + c.end()) for c in chunks]
    first = tuple(_spelled(chunk.group(), 0) for chunk in chunks)
    paused = (*(f"{part}," for part in first[:-1]), first[-1])
    oh = tuple(_spelled(chunk.group(), 1) for chunk in chunks)
    numbers, ranged = (
        tuple(
            joint.join(
                with_and(in_words(int(group)))[-1] for group in re.findall(r"\d+", chunk.group())
            )
            for chunk in chunks
        )
        for joint in (" ", " to ")
    )
    return in_places(spans, dict.fromkeys([paused, oh, numbers, ranged]))


def _spelled(chunk: str, zero: int) -> str:
    plus = "plus " if chunk.startswith("+") else ""
    groups = re.findall(r"\d+", chunk)
    return plus + ", ".join(digit_readings(group)[zero] for group in groups)


def _version(match: re.Match[str]) -> Passage | None:
    numbers = (match["of_v"] or match["parts"]).split(".")
    if re.match(r"V\d+(?!\.\d)", match.group()):
        return None  # a V8 is an engine
    if not match["v"] and all(len(number) == 3 for number in numbers[1:]) and len(numbers[0]) < 4:
        return whole(match, quantity_readings(",".join(numbers)))  # 1.000.000
    rest = "".join(f" {part}" for part in re.findall(r"[a-z]+", match["rest"]))
    rest += "".join(f" {in_words(int(part))}" for part in re.findall(r"\d+", match["rest"]))
    if not match["v"] and len(numbers) == 4 and all(int(n) < 256 for n in numbers):
        said = [
            f" {mark} ".join(digit_readings(n)[0] for n in numbers) for mark in ("dot", "point")
        ]
        return whole(match, said)
    said = [
        f" {mark} ".join(number_readings(n)[0] for n in numbers) + rest for mark in ("point", "dot")
    ]
    if match["v"] and _VERSION_BEFORE.search(
        match.string, max(0, match.start() - 9), match.start()
    ):
        return whole(match, [*said, *(f"v {one}" for one in said)])
    if match["v"]:
        return whole(match, [*(f"version {one}" for one in said), *(f"v {one}" for one in said)])
    return whole(match, said)


def _ordinal(match: re.Match[str]) -> Passage:
    return whole(match, ordinal_readings(int(match["number"].replace(",", ""))))


def _with_vulgar(match: re.Match[str]) -> Passage | None:
    part = Fraction(unicodedata.numeric(match["part"])).limit_denominator(10)
    if part.denominator == 1:
        return None
    return _mixed(match, match["whole"], part.numerator, part.denominator, sure=True)


def _mixed(
    match: re.Match[str], number: str | None, top: int, bottom: int, *, sure: bool
) -> Passage:
    part = fraction_words(top, bottom)
    if not number and (top, bottom) == (1, 2) and match.string.startswith(" a ", match.end()):
        return whole(match, ["half", part])
    if not number:
        others = [fraction_words(top, bottom, one="a")] if top == 1 else []
        return whole(match, [part, *others], sure=sure)
    heads, tail = quantity_readings(number), fraction_words(top, bottom, one="a")
    return whole(
        match, [*(f"{h} and {tail}" for h in heads[:2]), f"{heads[0]} and {part}"], sure=sure
    )


def _fraction(match: re.Match[str]) -> Passage | None:
    if (fixed := _FIXED.get(match.group())) is not None:
        return whole(match, [fixed])
    if _of_a_day(match):
        return None
    top, bottom = int(match["top"]), int(match["bottom"])
    plain = f"{in_words(top)} {in_words(bottom)}"
    if bottom in {10, 100} and not match["whole"] and not match["th"]:
        said = f"{in_words(top)} out of {in_words(bottom)}"
        return whole(match, [said, f"{in_words(top)} over {in_words(bottom)}", plain])
    if not 1 < bottom <= 100 or top < 1:
        over = f"{in_words(top)} over {in_words(bottom)}"
        return whole(match, [over, plain], sure=False)
    usual = bottom in {2, 3, 4} and top < bottom
    sure = bool(match["whole"] or match["th"] or _PART_OF.match(match.string, match.end()) or usual)
    passage = _mixed(match, match["whole"], top, bottom, sure=sure)
    over = f"{in_words(top)} over {in_words(bottom)}"
    return in_places(passage.spans, [*passage.readings, (over,), (plain,)], sure=sure)


def _of_a_day(match: re.Match[str]) -> bool:
    """Whether a nought says that this is a month and a day: 07/04."""
    return match["top"].startswith("0") or match["bottom"].startswith("0")


def _out_of(match: re.Match[str]) -> Passage:
    low, high = quantity_readings(match["low"])[0], quantity_readings(match["high"])[0]
    return whole(match, [f"{low} out of {high}", f"{low} {high}"])


def _word(match: re.Match[str]) -> Passage | None:
    """A word of letters and digits: each run of either by itself."""
    written = match.group()
    if not (any(map(str.isdecimal, written)) and any(map(str.isalpha, written))):
        return None
    if any(char.isdigit() and not char.isdecimal() for char in written):
        return None
    choices: list[list[str]] = []
    for part in _OF_WORD.findall(written):
        if part.isdecimal():
            choices.append(code_readings(part)[:3])
        elif part == "s" and _SEVERAL.search(written):
            choices[-1] = [plural(reading) for reading in choices[-1]]
        elif part.startswith("."):
            choices.append([f"point {digits}" for digits in digit_readings(part[1:])[:1]])
        elif part != "-":
            choices.append([part])
        elif _VARIABLE.fullmatch(written):
            choices.append(["minus", ""])
    if sum(len(choice) > 1 for choice in choices) > 2:
        choices = [choice[:1] for choice in choices]
    return whole(match, [" ".join(filter(None, parts)) for parts in product(*choices)])


def _plain(match: re.Match[str]) -> Passage:
    number, before = match["low"], match.string[max(0, match.start() - 16) : match.start()]
    if match["high"]:
        return _range(match)
    if match["sign"] or not number.isdigit():
        return whole(match, quantity(match))
    if len(number) > 2 and _SPELLED_AFTER.search(before):
        dialled = len(number) > 4 or _DIALLED.search(before)
        said = digit_readings(number) if dialled else code_readings(number)
        return whole(match, [*said, *quantity_readings(number)[:1]], sure=len(number) != 4)
    if len(number) > 2 and _INITIAL.search(before):
        return whole(match, code_readings(number))  # H.264
    if len(number) > 6 and not number.endswith("000"):
        return whole(match, [*digit_readings(number), *quantity_readings(number)], sure=False)
    return whole(match, quantity_readings(number))


def _range(match: re.Match[str]) -> Passage:
    """A range, a score, or a difference: that has an equals sign behind it."""
    number, said = match["low"], quantity(match)
    if match.group() == "24-7":
        return whole(match, [_FIXED["24/7"]])
    if number == match["high"]:
        return whole(match, [f"{one} {one}" for one in quantity_readings(number)])
    if re.match(r" ?=", match.string[match.end() : match.end() + 2]):
        said = [reading.replace(" to ", " minus ") for reading in said]
    return _over_places(match, said)


def _thousands(match: re.Match[str]) -> Passage:
    return whole(match, quantity_readings(re.sub("[ '’]", ",", match.group())))


def _over_places(match: re.Match[str], said: list[str]) -> Passage:
    """Read "5 - 10" with the word between the two at the dash."""
    chunks = list(re.finditer(r"\S+", match.group()))
    spans = [(match.start() + c.start(), match.start() + c.end()) for c in chunks]
    if len(spans) == 1:
        return whole(match, said)
    readings: list[Reading] = []
    for reading in said:
        low, word, high = (
            re.split(r" (to|minus) ", reading)
            if " to " in reading or " minus " in reading
            else (reading, "", "")
        )
        parts = [low, word, high]
        while len(parts) > len(spans):
            parts[-2:] = [" ".join(parts[-2:]).strip()]
        readings.append(tuple(parts))
    return in_places(spans, readings)


def _point(match: re.Match[str]) -> Passage:
    return whole(match, [f"point {digits}" for digits in digit_readings(match["digits"])])


def _digits(match: re.Match[str]) -> Passage:
    """What no other rule knows: digit by digit where it is long, or a part of something."""
    digits = match.group()
    short = len(digits) < 4 and not digits.startswith("0")
    said = [in_words(int(digits))] if short else digit_readings(digits)
    return whole(match, said)


def _ratio(match: re.Match[str]) -> Passage:
    low, high = (quantity_readings(match[side])[0] for side in ("low", "high"))
    return whole(match, [f"{low} to {high}", f"{low} {high}"])


CODES = (
    Rule(_TELEPHONE, _telephone),
    Rule(_CARD, _in_groups),
    Rule(_VERSION, _version),
    Rule(_RATIO, _ratio),
)
PARTS = (
    Rule(_WITH_VULGAR, _with_vulgar),
    Rule(_OUT_OF, _out_of),
    Rule(_FRACTION, _fraction),
    Rule(_ORDINAL, _ordinal),
)
NUMBERS = (
    Rule(_THOUSANDS, _thousands),
    Rule(_POINT, _point),
    Rule(_WORD, _word),
    Rule(_PLAIN, _plain),
    Rule(_DIGITS, _digits),
)
