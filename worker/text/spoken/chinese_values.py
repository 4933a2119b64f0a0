"""Chinese numbers and times in characters: each as the readings it may have, likeliest first."""

from __future__ import annotations

import re

_MAX_DIGITS = 15  # a longer number is read digit by digit
DIGITS = "零一二三四五六七八九"


def time_readings(hours: int, minutes: int) -> list[str]:
    """Read a time of day."""
    hour = "两点" if hours == 2 else f"{cardinal(hours)}点"
    if not minutes:
        return [hour, f"{hour}整"]
    number = ("零" if minutes < 10 else "") + cardinal(minutes)
    half = [f"{hour}半"] if minutes == 30 else []
    return [f"{hour}{number}分", f"{hour}{number}", *half]


def number_readings(number: str) -> list[str]:
    """Read a number without sign; a year's digits one by one first."""
    digits = number.replace(",", "")
    whole, _, fraction = digits.partition(".")
    spelled = "".join("点" if d == "." else DIGITS[int(d)] for d in digits)
    if len(whole) > _MAX_DIGITS or (whole.startswith("0") and len(whole) > 1):
        return [spelled]
    decimals = "点" + "".join(DIGITS[int(digit)] for digit in fraction) if fraction else ""
    whole_said = cardinal(int(whole))
    spoken = [whole_said + decimals]
    colloquial = re.sub("(?<!十)二(?=[百千万亿])", "两", whole_said)
    if whole == "2" and not fraction:
        colloquial = "两"
    if colloquial != whole_said:
        spoken.append(colloquial + decimals)
    if len(whole) < 3 or fraction:
        return spoken
    return [spelled, *spoken] if len(digits) == 4 and "," not in number else [*spoken, spelled]


def cardinal(value: int) -> str:
    """Give the numeral of a value, by fours of digits: 万, 亿, 万亿. A long one is spelled."""
    if value == 0:
        return "零"
    if value >= 10**16:
        return spelled(str(value))
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
                spoken += "零" * gap + DIGITS[digit] + ("", "十", "百", "千")[place]
            gap = bool(spoken) and not digit
        if groups[power]:
            spoken += ("", "万", "亿", "万")[power]
        elif power == 2 and spoken:
            spoken += "亿"
    return spoken.removeprefix("一") if spoken.startswith("一十") else spoken


def spelled(number: str, *, one: str = "一") -> str:
    """Say digits one by one, a point as 点; `one` is how a 1 is said: 幺 on the telephone."""
    said = "".join("点" if digit == "." else DIGITS[int(digit)] for digit in number)
    return said.replace("一", one)
