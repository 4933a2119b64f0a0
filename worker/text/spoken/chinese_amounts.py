"""Chinese amounts: shares, money, units."""

from __future__ import annotations

import re
from fractions import Fraction

from worker.text.spoken.chinese_patterns import (
    DASH,
    QUANTITY,
    SIGN,
    quantity,
    sign_of,
    value_readings,
)
from worker.text.spoken.chinese_tables import CURRENCIES, DOLLARS_OF, LATIN_SCALES, SCALES, UNITS
from worker.text.spoken.chinese_values import cardinal, number_readings
from worker.text.spoken.passage import Passage, Rule, in_places, whole
from worker.text.spoken.patterns import NUMBER, any_of

_PERCENT = re.compile(rf"{QUANTITY} ?(?P<mark>[%‰])(?!\w(?<=[A-Za-z]))")
_SCALE = rf"(?P<scale>{any_of(SCALES)})"
_MONEY = re.compile(
    rf"{SIGN}(?P<whose>(?<![A-Za-z])(?:US|HK|NT|A|C|S))?(?P<money>[$£€¥￥₩₹₽])\s?(?P<low>{NUMBER})"
    rf"(?:{DASH}(?P=money)?(?P<high>{NUMBER}))?+"
    rf"(?:(?P<latin>bn|[kKMmBwW])(?![A-Za-z])|(?P<gap> ?){_SCALE})?+"
)
_MONEY_BEHIND = re.compile(
    rf"{QUANTITY} ?(?P<scale>{any_of(SCALES)})?+ ?"
    r"(?P<money>[$£€¥￥₩₹₽]|(?:USD|EUR|GBP|CNY|RMB|JPY|HKD)(?![A-Za-z]))"
)
_UNIT = re.compile(rf"{QUANTITY} ?(?P<unit>{any_of(UNITS)})(?![A-Za-z\d/])")
_LATIN_SCALED = re.compile(rf"{QUANTITY}(?P<latin>[kKwWM])(?![A-Za-z\d])")


def _percent(match: re.Match[str]) -> Passage:
    of = "百分之" if match["mark"] == "%" else "千分之"
    sign = sign_of(match)
    low, high = value_readings(match["low"])[:1], match["high"]
    if high:
        return whole(match, [f"{sign}{of}{a}到{of}{value_readings(high)[0]}" for a in low])
    return whole(match, [f"{sign}{of}{a}" for a in value_readings(match["low"])])


def _scaled(match: re.Match[str]) -> list[str]:
    """A number with the Latin letter of a scale: 5M is 五百万."""
    noughts = LATIN_SCALES[match["latin"]]
    if len(match["low"]) + len(match["high"] or "") > 15:
        return [f"{n}{match['latin']}" for n in quantity(match)]
    low = Fraction(match["low"].replace(",", "")) * 10**noughts
    if low.denominator != 1 or low >= 10**15:
        return [f"{n}{match['latin']}" for n in quantity(match)]
    said = number_readings(f"{int(low):,}")[:2]
    high = match.groupdict().get("high")
    if high:
        most = int(Fraction(high.replace(",", "")) * 10**noughts)
        said = [f"{value_readings(match['low'])[0]}到{number_readings(f'{most:,}')[0]}"]
    sign = sign_of(match)
    return [sign + one for one in said]


def _money(match: re.Match[str]) -> Passage:
    name = DOLLARS_OF.get(match["whose"] or "", CURRENCIES[match["money"]])
    if match["latin"]:
        return whole(match, [n + name for n in _scaled(match)])
    if match["scale"]:
        spans = [(match.start(), max(match.end("low"), match.end("high"))), match.span("scale")]
        scale = SCALES[match["scale"]]
        return in_places(spans, [(n, scale + name) for n in quantity(match)])
    if len(match["low"].partition(".")[2]) == 2 and not match["high"]:
        return whole(match, [sign_of(match) + one for one in _cents(name, match["low"])])
    return whole(match, [n + name for n in quantity(match)])


def _cents(name: str, number: str) -> list[str]:
    """Read an amount with two digits behind the point."""
    head, _, cents = number.partition(".")
    short = head if cents == "00" else f"{head}.{cents.rstrip('0')}"
    said = [
        *(n + name for n in value_readings(short)[:2]),
        *(n + name for n in value_readings(number)[:1]),
    ]
    if name == "元":
        jiao, fen = int(cents[0]), int(cents[1])
        tenths = f"{cardinal(jiao)}角" if jiao else "零" * bool(fen)
        said.append(f"{value_readings(head)[0]}元{tenths}" + (f"{cardinal(fen)}分" if fen else ""))
    return said


def _money_behind(match: re.Match[str]) -> Passage:
    scale = match["scale"] or ""
    name = CURRENCIES[match["money"]]
    return whole(match, [f"{n}{scale}{name}" for n in quantity(match)])


def _unit(match: re.Match[str]) -> Passage:
    unit = UNITS[match["unit"]]
    said = quantity(match)
    if unit in {"摄氏度", "度"} and match["sign"] and match["sign"].strip() in "-−":
        said = [f"零下{one.removeprefix('负')}" for one in said]
    if match["low"] == "2" and not match["high"]:
        said = [one.replace("二", "两") for one in said[:1]] + said
    others = [f"{said[0]}度"] if unit == "摄氏度" else []
    return whole(match, [*(one + unit for one in said[:3]), *others])


def _latin_scaled(match: re.Match[str]) -> Passage | None:
    if match["latin"] in "KM" and len(match["low"]) < 2:
        return None
    return whole(match, _scaled(match))


AMOUNTS = (
    Rule(_PERCENT, _percent),
    Rule(_MONEY, _money),
    Rule(_MONEY_BEHIND, _money_behind),
    Rule(_UNIT, _unit),
    Rule(_LATIN_SCALED, _latin_scaled),
)
