"""English amounts: money, shares, units, sizes."""

from __future__ import annotations

import re
from itertools import product

from worker.text.spoken.english_tables import DOLLARS_OF, MONEY_CODES, SCALES, SIGNS, UNITS
from worker.text.spoken.english_values import (
    CURRENCIES as MONEY,
)
from worker.text.spoken.english_values import amount_readings, is_year, quantity_readings
from worker.text.spoken.passage import Passage, Rule, Span, in_places, whole
from worker.text.spoken.patterns import DASH, END, NUMBER, QUANTITY, SIGN, START, any_of

_SIGN_OF_MONEY = f"[{re.escape(''.join(MONEY))}]"
_SCALE = rf"(?P<scale>{any_of(SCALES)})(?!\w)"
_MONEY = re.compile(
    rf"{SIGN}(?<!\w)(?P<whose>{any_of(DOLLARS_OF)})?(?P<money>{_SIGN_OF_MONEY})\s?"
    rf"(?P<low>{NUMBER})(?!\d)(?:{DASH}(?P=money)?(?P<high>{NUMBER}))?+"
    rf"(?:(?P<gap>[ -]?){_SCALE})?+"
)
_MONEY_BEHIND = re.compile(
    rf"{QUANTITY}(?:(?P<gap1> ?){_SCALE})?+(?P<gap> ?)"
    rf"(?P<money>{_SIGN_OF_MONEY}|{any_of(MONEY_CODES)}){END}"
)
_CODE_BEFORE = re.compile(
    rf"(?<!\w)(?P<money>{any_of(MONEY_CODES)})(?P<apart> ?)(?P<low>{NUMBER})"
    rf"(?:(?P<gap>[ ]?){_SCALE})?+"
)
_UNIT = re.compile(rf"{QUANTITY}(?P<gap>[ -]?)(?P<unit>{any_of(UNITS)})(?P<dot>){END}(?!['’]\w)")
_LASTING = re.compile(
    rf"{START}(?:(?P<hours>\d{{1,3}}) ?(?:hours?|hrs?|h)(?: ?(?P<m>\d{{1,2}}) ?(?:mins?|m))"
    rf"|(?P<minutes>\d{{1,3}}) ?(?:mins?|m)(?= ?\d))(?: ?(?P<s>\d{{1,2}}) ?(?:secs?|s))?+{END}"
)
_COUNT_AND_UNIT = re.compile(r"(\d+)( ?)([a-z]+)")
_ANGLE = re.compile(
    rf"{START}(?P<degrees>\d{{1,3}})° ?(?P<minutes>\d{{1,2}})['′’]"
    r"(?: ?(?P<seconds>\d{1,2}(?:\.\d+)?)(?:[\"″”]|''))?(?!\w)"
)
_FEET_ALONE = re.compile(rf"{START}(?P<low>\d{{1,3}})['′’](?= (?:tall|long|wide|high|deep|by)\b)")
_UNIT_ALONE = re.compile(r"(?<![\w/])(?:km/h|m/s|km/s|MB/s|GB/s|kWh|m²|km²|m³)(?![\w/])")
_SCALED = re.compile(rf"{QUANTITY}(?P<scale>bn|mn|tn|mio|[kKMB]){END}")
_SCALE_WORD = re.compile(rf"{QUANTITY}(?P<gap> )(?P<scale>thousand|million|billion|trillion){END}")
_FEET = re.compile(
    rf"{START}(?P<feet>(?<!°)\d{{1,3}}) ?(?:['′’]|ft\.?)(?P<gap> ?)(?P<inches>\d{{1,2}}(?:\.\d+)?)"
    r"(?: ?(?:[\"″”]|''|in\b\.?|inches\b))?+(?!\w)"
)
_SIZE = re.compile(rf"{START}{NUMBER}(?:[x×]{NUMBER})++(?![\^⁰¹²³⁴-⁹⁻]){END}")
_AS_A_LETTER = re.compile(
    r" (?:runs?|races?|runners?|walks?|videos?|displays?|monitors?|screens?|TVs?|footage"
    r"|resolution)\b"
)
_TIMES = re.compile(rf"{QUANTITY}[x×](?![\w+=^-]| [-+=−] )")
_NAME_BEFORE = re.compile("[A-Z]-$")
_NOUN = re.compile(" [a-z]{3}")
_LOOSE_UNITS = frozenset({"s", "h", "m", "g", "l", "L", "V", "W", "J", "cal", "sec", "min", "B"})


def quantity(match: re.Match[str]) -> list[str]:
    """Read `QUANTITY`: its sign, its number or its range."""
    said = ranged(match["low"], match["high"])
    sign = SIGNS.get(match["sign"].strip(), "") if match["sign"] else ""
    if not sign:
        return said
    signs = [sign, "negative"] if sign == "minus" else [sign]
    return [f"{sign} {number}" for number, sign in product(said[:3], signs)]


def ranged(low: str, high: str | None) -> list[str]:
    """Read a number, or a range."""
    if high is None:
        return quantity_readings(low)
    both = zip(quantity_readings(low), quantity_readings(high), strict=False)
    lowest, highest = quantity_readings(low)[0], quantity_readings(high)[0]
    return [*(f"{a} to {b}" for a, b in both), f"{lowest} {highest}"]


def attributive(match: re.Match[str]) -> bool:
    """Whether an amount stands before a noun, where its unit has no plural: "a 5 km run"."""
    text = match.string
    before = text[max(0, match.start() - 3) : match.start()].lower()
    if not (before.endswith((" a ", "an ")) or before == "a "):
        return False
    return _NOUN.match(text, match.end()) is not None


def is_one(match: re.Match[str]) -> bool:
    """Whether a quantity is exactly one."""
    return match["low"] == "1" and not match["high"]


def beside(match: re.Match[str], number_end: int, word: str) -> tuple[Span, ...]:
    """The spans of a number and a word behind it: one where nothing is between them."""
    start, end = match.start(word), match.end(word)
    if match.string[number_end:start] == " ":
        return ((match.start(), number_end), (start, max(end, match.end())))
    return (match.span(),)


def _number_end(match: re.Match[str]) -> int:
    return max(match.end("low"), match.end("high"))


def _money(match: re.Match[str]) -> Passage:
    one, many, _ = MONEY[match["money"]]
    if match["whose"] and match["money"] == "$":
        one, many = (f"{DOLLARS_OF[match['whose']]} {name}" for name in (one, many))
    minus = ["minus " if match["sign"] else ""]
    if match["scale"]:
        scale = SCALES[match["scale"]]
        spans = beside(match, _number_end(match), "scale")
        numbers = ranged(match["low"], match["high"])[:3]
        names = (one, many) if attributive(match) else (many, one)
        parts = [(f"{minus[0]}{number}", f"{scale} {name}") for number in numbers for name in names]
        return _in(spans, parts)
    if match["high"] or match["whose"]:
        name = one if is_one(match) else many
        return whole(match, [f"{minus[0]}{n} {name}" for n in ranged(match["low"], match["high"])])
    return whole(match, [minus[0] + reading for reading in money_readings(match)])


def money_readings(match: re.Match[str]) -> list[str]:
    """Read an amount with the sign of its currency: "three dollars and fifty cents"."""
    number, sign = match["low"], match["money"]
    _, _, small = MONEY[sign]
    units, _, cents = number.partition(".")
    if small and len(cents) == 2 and cents != "00":
        first, with_and, *others = amount_readings(number, sign)
        if units == "0":
            name = "cent" if cents == "01" and small == "cents" else small
            return [f"{quantity_readings(str(int(cents)))[0]} {name}", with_and, first, *others]
        return [with_and, first, *others]
    if is_year(units) and not cents:
        return [f"{n} {MONEY[sign][1]}" for n in quantity_readings(number)[:3]]
    return amount_readings(number, sign)


def _in(spans: tuple[Span, ...], parts: list[tuple[str, str]]) -> Passage:
    """Put a number's words and those behind it into one span or two."""
    if len(spans) == 2:
        return in_places(spans, parts)
    return in_places(spans, [(" ".join(both),) for both in parts])


def _money_behind(match: re.Match[str]) -> Passage | None:
    names = MONEY_CODES.get(match["money"]) or MONEY[match["money"]][:2]
    name = names[0] if is_one(match) and not match["scale"] else names[1]
    scale = f" {SCALES[match['scale']]}" if match["scale"] else ""
    if scale and match["gap1"]:
        spans = (
            (match.start(), _number_end(match)),
            match.span("scale"),
            match.span("money"),
        )
        if match["gap"]:
            return in_places(spans, [(n, scale.strip(), name) for n in quantity(match)])
        return whole(match, [f"{n}{scale} {name}" for n in quantity(match)])
    end = match.end("scale") if scale else _number_end(match)
    return _in(beside(match, end, "money"), [(n + scale, name) for n in quantity(match)])


def _code_before(match: re.Match[str]) -> Passage:
    """Say the name of the currency of "USD 100" where its number stands."""
    one, many = MONEY_CODES[match["money"]]
    scale = f" {SCALES[match['scale']]}" if match["scale"] else ""
    name = one if match["low"] == "1" and not scale else many
    if not match["apart"]:
        return whole(match, [f"{n}{scale} {name}" for n in quantity_readings(match["low"])])
    spans = (match.span("money"), (match.start("low"), match.end()))
    return in_places(spans, [(n + scale, name) for n in quantity_readings(match["low"])])


def _unit(match: re.Match[str]) -> Passage | None:
    unit, gap = match["unit"], match["gap"]
    if unit == "s" and not gap and _NAME_BEFORE.search(match.string[: match.start()][-3:]):
        return None  # two B-52s
    if gap == "-" and (unit in _LOOSE_UNITS or unit in "°%"):
        return None
    if unit in {"s", "h", "V"} and is_year(match["low"]):
        return None
    one, many = UNITS[unit]
    name = one if is_one(match) or gap == "-" else many
    sure = not (
        gap == " " and unit in {"m", "s", "h", "V", "W", "J", "L"} and is_year(match["low"])
    )
    if attributive(match):
        name = one
    spans = beside(match, _number_end(match), "unit")
    others = [name, one, many] if unit == "ft" else [name]
    parts = [(number, other) for number in quantity(match) for other in others]
    passage = _in(spans, parts)
    return passage if sure else Passage(passage.spans, passage.readings, sure=False)


def _scaled(match: re.Match[str]) -> Passage | None:
    scale = match["scale"]
    if scale in "KB" and "." not in match["low"] and len(match["low"]) < 2:
        return None  # 4K, 7B: a name
    if scale == "M" and match["low"].startswith("0"):
        return None
    if scale in "kK" and _AS_A_LETTER.match(match.string, match.end()):
        return None  # a 10k run, 4K video
    return whole(match, [f"{n} {SCALES[scale]}" for n in quantity(match)], sure=scale != "B")


def _scale_word(match: re.Match[str]) -> Passage:
    spans = ((match.start(), _number_end(match)),)
    return in_places(spans, [(number,) for number in quantity(match)])


def _feet(match: re.Match[str]) -> Passage:
    feet, inches = match["feet"], match["inches"]
    many = "foot" if feet == "1" else "feet"
    tail = quantity_readings(inches)[0]
    small = "inch" if inches == "1" else "inches"
    head = quantity_readings(feet)[0]
    return whole(
        match, [f"{head} {many} {tail} {small}", f"{head} foot {tail}", f"{head} {many} {tail}"]
    )


def _lasting(match: re.Match[str]) -> Passage | None:
    """Read "1h 30m", where the m is no meter."""
    if match["minutes"] and not match["s"]:
        return None
    spans: list[Span] = []
    said: list[str] = []
    for part in _COUNT_AND_UNIT.finditer(match.string, match.start(), match.end()):
        number, gap, unit = part.groups()
        name = {"h": "hour", "m": "minute", "s": "second"}[unit[0]] + "s" * (number != "1")
        spans += [part.span(1), part.span(3)] if gap else [part.span()]
        words = quantity_readings(number)[0]
        said += [words, name] if gap else [f"{words} {name}"]
    return in_places(spans, [tuple(said)])


def _angle(match: re.Match[str]) -> Passage:
    parts = []
    for name in ("degrees", "minutes", "seconds"):
        if match[name]:
            one = name[:-1] if match[name] == "1" else name
            parts.append(f"{quantity_readings(match[name])[0]} {one}")
    return whole(match, [" ".join(parts)])


def _feet_alone(match: re.Match[str]) -> Passage:
    name = "foot" if match["low"] == "1" else "feet"
    return whole(match, [f"{number} {name}" for number in quantity_readings(match["low"])])


def _size(match: re.Match[str]) -> Passage:
    numbers = re.split("[x×]", match.group())
    first = " by ".join(quantity_readings(number)[0] for number in numbers)
    pairs = " by ".join(quantity_readings(number)[-1] for number in numbers)
    return whole(match, [first, pairs, first.replace(" by ", " x ")])


def _times(match: re.Match[str]) -> Passage:
    return whole(match, [f"{number} times" for number in quantity(match)])


def _unit_alone(match: re.Match[str]) -> Passage:
    return whole(match, [UNITS[match.group()][1]])


AMOUNTS = (
    Rule(_MONEY, _money),
    Rule(_MONEY_BEHIND, _money_behind),
    Rule(_CODE_BEFORE, _code_before),
    Rule(_LASTING, _lasting),
    Rule(_ANGLE, _angle),
    Rule(_FEET, _feet),
    Rule(_FEET_ALONE, _feet_alone),
    Rule(_SIZE, _size),
    Rule(_TIMES, _times),
    Rule(_UNIT, _unit),
    Rule(_UNIT_ALONE, _unit_alone),
    Rule(_SCALED, _scaled),
    Rule(_SCALE_WORD, _scale_word),
)
