"""English numbers, times and amounts in words: each in its readings, likeliest first."""

from __future__ import annotations

from worker.text import english_numbers
from worker.text.english_numbers import Kind

_MAX_DIGITS = 15  # a longer number is read digit by digit
CURRENCIES = {
    "$": ("dollar", "dollars", "cents"),
    "£": ("pound", "pounds", "pence"),
    "€": ("euro", "euros", "cents"),
    "¥": ("yen", "yen", ""),
    "￥": ("yuan", "yuan", ""),
    "₩": ("won", "won", ""),
    "₹": ("rupee", "rupees", "paise"),
    "₽": ("ruble", "rubles", "kopecks"),
    "₿": ("bitcoin", "bitcoins", ""),
    "¢": ("cent", "cents", ""),
}


def in_words(number: int, kind: Kind = "cardinal") -> str:
    """Say a number in words with single spaces: no hyphens, no commas. A long one is spelled."""
    if number >= 10**_MAX_DIGITS:
        return digit_readings(str(number))[0]
    return english_numbers.in_words(number, kind).replace(",", "").replace("-", " ")


def number_readings(number: str) -> list[str]:
    """Read a number without sign: as a year, as a number, digit by digit."""
    digits = number.replace(",", "")
    whole, _, fraction = digits.partition(".")
    if len(whole) > _MAX_DIGITS:
        return digit_readings(digits)
    if fraction:
        decimals = " ".join(digit_readings(fraction)[0].split())
        return [f"{head} point {decimals}" for head in with_and(in_words(int(whole)))]
    if whole.startswith("0") and len(whole) > 1:
        return digit_readings(whole)
    cardinal = with_and(in_words(int(whole)))
    if len(whole) == 4 and "," not in number and 1100 <= int(whole) <= 2099:
        year = in_words(int(whole), "year")
        halves = f"{in_words(int(whole[:2]))} {in_words(int(whole[2:]))}"
        return [year, *cardinal, halves]
    return cardinal if len(whole) < 3 else [*cardinal, *digit_readings(whole)]


def digit_readings(digits: str) -> list[str]:
    """Digit by digit; a nought is "zero" or "oh", a point is "point"."""
    names = ["point" if digit == "." else in_words(int(digit)) for digit in digits]
    return [" ".join(names), " ".join("oh" if name == "zero" else name for name in names)]


def with_and(number: str) -> list[str]:
    """British and American: "one hundred and five", "one hundred five"."""
    return [number, number.replace(" and ", " ")]


def time_readings(hours: int, minutes: int) -> list[str]:
    """Read a time of day."""
    hour = in_words(hours)
    if not minutes:
        return [f"{hour} o'clock", hour, f"{hour} hundred"]
    if minutes < 10:
        return [f"{hour} oh {in_words(minutes)}", f"{hour} zero {in_words(minutes)}"]
    return [f"{hour} {in_words(minutes)}"]


def amount_readings(number: str, sign: str) -> list[str]:
    """Read an amount of the currency of `sign`."""
    one, many, small = CURRENCIES[sign]
    whole, _, fraction = number.partition(".")
    plain = [f"{n} {one if number == '1' else many}" for n in number_readings(number)[:2]]
    if len(fraction) != 2 or not small or len(whole) > _MAX_DIGITS:
        return plain
    head = f"{in_words(int(whole.replace(',', '')))} {one if whole == '1' else many}"
    if fraction == "00":
        return [head, *plain]
    tail = in_words(int(fraction))
    if fraction == "01":
        small = {"cents": "cent", "pence": "penny", "kopecks": "kopeck"}.get(small, small)
    return [f"{head} {tail} {small}", f"{head} and {tail} {small}", f"{head} {tail}", *plain]


def quantity_readings(number: str) -> list[str]:
    """Read a number that counts something: as `number_readings`, but a year last."""
    first, *others = number_readings(number)
    return [*others, first] if is_year(number) else [first, *others]


def is_year(number: str) -> bool:
    """Whether a number may be a year: 1100 to 2099, without comma or point."""
    return len(number) == 4 and number.isdigit() and 1100 <= int(number) <= 2099


def year_readings(year: str) -> list[str]:
    """Read a year of up to four digits."""
    if is_year(year):
        return number_readings(year)
    if len(year) == 4 and year.startswith("10") and year != "1000":
        return [in_words(int(year), "year"), *with_and(in_words(int(year)))]
    return with_and(in_words(int(year)))


def ordinal_readings(number: int) -> list[str]:
    """Read an ordinal: "twenty first"."""
    return with_and(in_words(number, "ordinal"))


def code_readings(digits: str) -> list[str]:
    """Read digits of a name, such as a model's: 320 is "three twenty", 4090 "forty ninety"."""
    spelled = digit_readings(digits)
    if len(digits) > 4 or digits.startswith("0"):
        return spelled
    number = int(digits)
    if number < 100 or number % 100 == 0:
        return [in_words(number), *spelled]
    head, tail = divmod(number, 100)
    pairs = f"{in_words(head)} {'oh ' if tail < 10 else ''}{in_words(tail)}"
    return [pairs, *spelled[:1], *with_and(in_words(number))]


def fraction_words(top: int, bottom: int, *, one: str = "one") -> str:
    """Say a fraction as it is written: "one half", "two quarters"; `one` may be "a"."""
    part = {2: "half", 4: "quarter"}.get(bottom) or in_words(bottom, "ordinal")
    if top == 1:
        return f"{'an' if one == 'a' and part.startswith('e') else one} {part}"
    return f"{in_words(top)} {'halves' if bottom == 2 else part + 's'}"
