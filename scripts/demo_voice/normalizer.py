"""Numbers, money, times and abbreviations into plain lower-case words, inside tokenizer.json.

The rules are a `tokenizers` normalizer, so the checkpoint reads digits wherever it is loaded: in
upstream's classes as in this project's, neither of which knows of it. A rule is a regular
expression and a constant: there are no groups to refer to, so an expression looks behind and ahead
for its place in the number, and the rules' order does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Regex, normalizers

ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
FIRSTS = (
    *("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth"),
)
SUFFIXES = {1: "st", 2: "nd", 3: "rd"}
GROUPS = ((9, " billion "), (6, " million "), (3, " thousand "), (0, ""))

ABBREVIATIONS = {
    "mr.": "mister",
    "mrs.": "missis",
    "ms.": "miz",
    "dr.": "doctor",
    "prof.": "professor",
    "st.": "saint",
    "vs.": "versus",
    "etc.": "et cetera",
    "e.g.": "for example",
    "i.e.": "that is",
    "approx.": "approximately",
    "no.": "no.",
    "dept.": "department",
    "jr.": "junior",
    "sr.": "senior",
    "capt.": "captain",
    "gen.": "general",
    "sen.": "senator",
    "gov.": "governor",
    "mt.": "mount",
    "ave.": "avenue",
}
MONTHS = {
    "jan": "january",
    "feb": "february",
    "aug": "august",
    "sept": "september",
    "oct": "october",
    "nov": "november",
    "dec": "december",
}
UNITS = {
    "km": "kilometers",
    "cm": "centimeters",
    "mm": "millimeters",
    "kg": "kilograms",
    "lb": "pounds",
    "lbs": "pounds",
    "oz": "ounces",
    "ft": "feet",
    "mph": "miles an hour",
    "km/h": "kilometers an hour",
    "ml": "milliliters",
    "gb": "gigabytes",
    "mb": "megabytes",
    "hz": "hertz",
    "khz": "kilohertz",
    "min": "minutes",
    "hrs": "hours",
    "kb": "kilobytes",
}
# Said letter by letter; other capitals are words that are shouted.
SPELLED = (
    *("USA", "UK", "US", "EU", "UN", "TV", "DVD", "CD", "PC", "CPU", "GPU", "USB", "FBI", "CIA"),
    *("CEO", "DNA", "RNA", "AI", "API", "URL", "HTML", "PDF", "ATM", "BBC", "CNN", "IBM", "MIT"),
    *("NBA", "NFL", "NYC", "LA", "DC", "VIP", "FAQ", "GPS", "ID", "IQ", "UFO", "PhD", "TTS"),
)
CURRENCIES = {r"\$": ("dollar", "cents"), "£": ("pound", "pence"), "€": ("euro", "cents")}
MARKS = {
    "&": " and ",
    "%": " percent",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "°": " degrees ",
    "\u2014": ", ",
    "/": " ",
    "\u2044": " over ",
    "\u2026": ".",
    "_": " ",
    "*": " ",
    **dict.fromkeys('"\u201c\u201d\u00ab\u00bb()[]{}<>|~^`#\\', " "),
}


def rules() -> Iterator[tuple[str, str]]:
    """Each expression and what it becomes, in order; letters keep their case until the end."""
    yield "[\u2018\u2019\u02bc]", "'"
    yield r"(?<=\d) ?[\u2013\u2212-] ?(?=\d)", " to "
    yield "[\u2013\u2212]", "-"
    yield r"(?<=[A-Za-z])'(?=[^A-Za-z]|$)|(?<![A-Za-z])'(?=[A-Za-z])", " "  # quotation marks
    for word in SPELLED:
        yield rf"(?<![A-Za-z]){word}(?![A-Za-z])", " ".join(word)
    yield r"(?<![A-Za-z.])([A-Z]\.){2,}(?= [A-Z])", ""  # initials that none could say anyway
    for short, long in ABBREVIATIONS.items():
        yield rf"(?i)(?<![A-Za-z]){short.replace('.', chr(92) + '.')}(?= ?[a-z0-9])", long
    for short, long in MONTHS.items():
        yield rf"(?i)(?<![A-Za-z]){short}\.?(?= \d)", long
    yield r"(?i)(?<=\d) ?a\.?m(\.|(?![a-z]))", " a m"
    yield r"(?i)(?<=\d) ?p\.?m(\.|(?![a-z]))", " p m"
    for short, long in UNITS.items():
        yield rf"(?<=\d) ?{short}(?![A-Za-z])", f" {long}"
    yield r"(?<=\d),(?=\d{3}(?!\d))", ""
    yield from _money()
    yield r"#(?=\d)", "number "
    yield from _times()
    yield from _ordinals()
    yield from _decimals()
    yield r"(?<![\d.])-(?=\d)", "minus "
    yield from _years()
    yield from _cardinals()
    for mark, word in MARKS.items():
        yield f"[{chr(92) + mark if mark in '[]^' + chr(92) else mark}]", word
    yield "hundred +th(?![a-z])", "hundredth"
    yield r"\s+", " "
    yield " +(?=[,.;:?!])", ""
    yield r"[,;:]+(?=[,.;:?!])", ""


def _money() -> Iterator[tuple[str, str]]:
    for sign, (unit, part) in CURRENCIES.items():
        behind = "|".join(rf"(?<={sign}{chr(92)}d{{{n}}})" for n in range(1, 13))
        yield rf"(?:{behind})\.(?=\d\d(?!\d))", f" {unit}s and "
        for size in ("thousand", "million", "billion", "trillion"):
            numbers = (
                rf"{chr(92)}d",
                rf"{chr(92)}d{{2}}",
                rf"{chr(92)}d{{3}}",
                r"\d\.\d",
                r"\d\d\.\d",
            )
            behind_size = "|".join(f"{sign}{number} {size}" for number in numbers)
            yield rf" {size}(?<={behind_size})", f" {size} {unit}s"
        one = rf"(?<={sign}1)(?![\d.,]*\d)(?! [a-z]+llion)(?! {unit})"
        yield one, f" {unit}"
        yield rf"(?:{behind})(?![\d.,]*\d)(?! [a-z]+(?:llion|sand))(?! {unit})", f" {unit}s"
        yield rf"(?<={unit}s and \d\d)(?!\d)", f" {part}"
        yield sign, " "


def _times() -> Iterator[tuple[str, str]]:
    yield r"(?<=\d):00(?!\d)(?= [ap] m)", ""
    yield r"(?<=\d):00(?!\d)", " o'clock"
    yield r"(?<=\d):0(?=\d(?!\d))", " oh "
    yield r"(?<=\d):(?=\d\d(?!\d))", " "


def _ordinals() -> Iterator[tuple[str, str]]:
    for n in range(10, 20):
        yield rf"(?i)(?<=\d){n}th", f"00 {FIRSTS[n]}"
        yield rf"(?i){n}th", FIRSTS[n]
    for n in range(1, 10):
        suffix = SUFFIXES.get(n, "th")
        yield rf"(?i)(?<=\d){n}{suffix}", f"0 {FIRSTS[n]}"
        yield rf"(?i){n}{suffix}", FIRSTS[n]
    for n in range(2, 10):
        word = f"{TENS[n][:-1]}ieth"
        yield rf"(?i)(?<=\d){n}0th", f"00 {word}"
        yield rf"(?i){n}0th", word
    yield r"(?i)(?<=[1-9]00)th", " th"
    for n in range(2, 10):
        yield rf"(?<=1[1-9]|20){n}0'?s(?![a-z])", f"00 {TENS[n][:-1]}ies"
        yield rf"(?<!\d)'?{n}0'?s(?![a-z])", f"{TENS[n][:-1]}ies"
    # 1900 nineties: the century alone is said
    for n in range(11, 20):
        yield rf"(?<!\d){n}00(?= [a-z]+ties)", TEENS[n - 10]
    yield r"(?<!\d)2000(?= [a-z]+ties)", "twenty"


def _decimals() -> Iterator[tuple[str, str]]:
    yield r"(?<=\d)\.(?=\d)", " point "
    for n in range(6):
        yield rf"(?<=point{' [0-9]' * (n + 1)})(?=\d)", " "
    yield r"(?<![\d.])\.(?=\d)", "point "


def _years() -> Iterator[tuple[str, str]]:
    """1984 is nineteen eighty four, 1905 nineteen oh five; 2005 stays a number."""
    for n in range(11, 21):
        word = TEENS[n - 10] if n < 20 else "twenty"
        plain = "(?!00)" if n % 10 else "(?!0)"
        yield rf"(?<!\d){n}{plain}0(?=[1-9](?!\d))", f"{word} oh "
        yield rf"(?<!\d){n}{plain}(?=\d\d(?!\d))", f"{word} "
        if n % 10:
            yield rf"(?<!\d){n}00(?!\d)", f"{word} hundred"


def _cardinals() -> Iterator[tuple[str, str]]:
    # From a trillion on, or after a leading zero, digit by digit.
    yield "|".join(rf"(?<=\d{{{n}}})(?=\d{{{13 - n}}})" for n in range(1, 13)), " "
    for digit in range(10):
        yield rf"(?<!\d)0(?=0*{digit}(?<=[0-9]))(?=\d)", " zero "
    for place, name in GROUPS:
        rest = rf"\d{{{place}}}(?!\d)"
        yield rf"(?<=llion |sand )000(?={rest})", ""
        for digit in range(1, 10):
            yield rf"{digit}(?=\d\d{rest})", f" {ONES[digit]} hundred "
        yield rf"0(?=\d\d{rest})", " "
        for digit in range(10):
            yield rf"1{digit}(?={rest})", f" {TEENS[digit]}{name}"
        for digit in range(2, 10):
            yield rf"{digit}0(?={rest})", f" {TENS[digit]}{name}"
            yield rf"{digit}(?=\d{rest})", f" {TENS[digit]} "
        yield rf"00(?={rest})", name or " "
        yield rf"0(?=\d{rest})", " "
        for digit in range(1, 10):
            yield rf"{digit}(?={rest})", f" {ONES[digit]}{name}"
        if not place:
            yield r"0(?!\d)", " zero "


def spoken() -> normalizers.Normalizer:
    """Words for all that is none, capitals kept: what the teacher reads."""
    return normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            *(normalizers.Replace(Regex(pattern), content) for pattern, content in rules()),
            normalizers.Strip(),
        ]
    )


def normalizer() -> normalizers.Normalizer:
    """What the language model reads: `spoken` in lower case."""
    return normalizers.Sequence([spoken(), normalizers.Lowercase()])
