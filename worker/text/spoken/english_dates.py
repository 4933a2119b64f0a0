"""English dates, years and times of day."""

from __future__ import annotations

import re

from worker.text.spoken.english_tables import MONTHS
from worker.text.spoken.english_values import (
    in_words,
    is_year,
    number_readings,
    ordinal_readings,
    quantity_readings,
    time_readings,
    year_readings,
)
from worker.text.spoken.passage import Passage, Reading, Rule, Span, in_places, whole
from worker.text.spoken.patterns import END, START

_SHORT = {name[:3]: name for name in MONTHS} | {"Sept": "September"}
_MONTH = rf"(?P<month>{'|'.join(MONTHS)}|(?:Sept|{'|'.join(name[:3] for name in MONTHS)})(?!\w)\.?)"
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?P<th>st|nd|rd|th)?"
_LAST = r"(?:[-–](?P<last>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?)?"
_YEAR = r"(?P<year>[12]\d{3})(?!\w|[.,:]\d|['’]s)"
_MONTH_DAY = re.compile(
    rf"(?<!\w){_MONTH} {_DAY}{_LAST}(?![\w:%°]|[.,/]\d| ?(?:million|billion|percent|times)\b)"
    rf"(?:,? {_YEAR})?"
)
_DAY_MONTH = re.compile(rf"{START}{_DAY}{_LAST} (?P<of>of )?{_MONTH}(?!\w)(?:,? {_YEAR})?")
_MONTH_YEAR = re.compile(rf"(?<!\w){_MONTH},? {_YEAR}")
_YEAR_FIRST = re.compile(
    rf"{START}(?P<year>[12]\d{{3}})(?P<mark>[-/.])(?P<month>0?[1-9]|1[0-2])(?P=mark)"
    rf"(?P<day>0?[1-9]|[12]\d|3[01]){END}(?![-/.]\d)"
)
_YEAR_LAST = re.compile(
    rf"{START}(?P<one>\d{{1,2}})(?P<mark>[-/.])(?P<two>\d{{1,2}})(?P=mark)"
    rf"(?P<year>[12]\d{{3}}|(?<=/)\d\d){END}(?![-/.]\d)"
)
_NO_YEAR = re.compile(
    rf"(?P<hint>(?<!\w)(?:on|by|since|until|till|before|after|due|dated) )"
    rf"(?P<one>0?[1-9]|1[0-2])/(?P<two>0?[1-9]|[12]\d|3[01]){END}(?!/| of\b)"
)
_WITH_NOUGHT = re.compile(
    rf"{START}(?P<hint>)(?=0|\d+/0)(?P<one>0?[1-9]|1[0-2])/(?P<two>0?[1-9]|[12]\d|3[01]){END}(?!/)"
)
_HALF = r"(?P<half>[aApP])(?:\.[mM](?:\.(?=\s*[a-z0-9,;:)])|\b)|[mM](?!\w))"
_TIME = re.compile(
    rf"(?<![\w:])(?<!\d[.,])(?P<hours>[01]?\d|2[0-4])[:](?P<minutes>[0-5]\d)"
    rf"(?::(?P<seconds>[0-5]\d)(?:\.\d+)?)?(?![\d:]|\.\d)(?:(?P<gap> ?){_HALF})?{END}"
)
_HOUR = re.compile(rf"{START}(?P<hours>1[0-2]|0?[1-9])(?P<gap> ?){_HALF}{END}")
_HOURS = re.compile(
    rf"{START}(?P<hours>1[0-2]|0?[1-9]) ?[-–] ?(?P<till>1[0-2]|0?[1-9])(?P<gap> ?)"
    rf"{_HALF}{END}"
)
_DECADE = re.compile(
    rf"(?<![^\W_])['’]?(?P<century>1[1-9]|20)?(?P<tens>[2-9]0|(?<=\d)[01]0|10)['’]?s{END}"
)
_YEARS = re.compile(
    rf"{START}(?P<year>1\d{{3}}|20\d\d)(?:(?P<dash> ?[-–/] ?)(?P<till>1[1-9]\d\d|20\d\d|\d\d))?"
    rf"(?![\w%°$€£]|[.,:/-]\d)"
)
_BEFORE_YEAR = re.compile(
    r"(?:\b(?:in|since|until|till|circa|during|year|years|early|late|mid|spring|summer|autumn|fall"
    r"|winter|class of|from|by|of|before|after|around|and|to|between|the)|[©(]) ?$",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r" (?:[a-z]+ )?(?:people|men|women|children|[a-z]{2,}[^su\W]s)\b(?<! was)(?<! has)(?<! does)"
)
_SINGULAR = frozenset(
    ["was", "has", "is", "as", "his", "its", "this", "us", "does", "news", "always"]
)


def month_name(written: str) -> str:
    """The name of a month that may be abbreviated."""
    name = written.rstrip(".")
    return _SHORT.get(name, name)


def _month_day(match: re.Match[str]) -> Passage:
    spans: list[Span] = [match.span("month"), (match.start("day"), _day_end(match))]
    month = month_name(match["month"])
    readings: list[Reading] = [(month, day) for day in _days(match)]
    return _with_year(match, spans, readings)


def _day_month(match: re.Match[str]) -> Passage:
    spans: list[Span] = [(match.start("day"), _day_end(match)), match.span("month")]
    month = month_name(match["month"])
    ordinal, number, *_ = _days(match)
    plain: list[Reading] = [(ordinal, month), (number, month)]
    behind_the = match.string[: match.start()].endswith(("the ", "The "))
    readings: list[Reading]
    if match["of"]:
        readings = [(ordinal, month)]
    elif behind_the:
        readings = [(ordinal, f"of {month}"), *plain]
    else:
        readings = [(f"the {ordinal}", f"of {month}"), *plain]
    return _with_year(match, spans, readings)


def _day_end(match: re.Match[str]) -> int:
    return max(match.end("day"), match.end("th"), match.end("last"), _suffix_end(match))


def _suffix_end(match: re.Match[str]) -> int:
    end = match.end("last")
    return end + 2 if end > 0 and match.string[end : end + 2] in {"st", "nd", "rd", "th"} else end


def _days(match: re.Match[str]) -> list[str]:
    day, last = int(match["day"]), match["last"]
    if last:
        low, high = (ordinal_readings(n)[0] for n in (day, int(last)))
        return [f"{low} to {high}", f"{in_words(day)} to {in_words(int(last))}"]
    return [ordinal_readings(day)[0], in_words(day), f"the {ordinal_readings(day)[0]}"]


def _with_year(match: re.Match[str], spans: list[Span], readings: list[Reading]) -> Passage:
    if not match["year"]:
        return in_places(spans, readings)
    years = year_readings(match["year"])[:3]
    both = [(*reading, year) for year in years for reading in readings[:2]]
    return in_places([*spans, match.span("year")], both)


def _month_year(match: re.Match[str]) -> Passage:
    month = month_name(match["month"])
    spans = [match.span("month"), match.span("year")]
    return in_places(spans, [(month, year) for year in year_readings(match["year"])])


def _year_first(match: re.Match[str]) -> Passage:
    return whole(match, _date(match["year"], int(match["month"]), int(match["day"])))


def _year_last(match: re.Match[str]) -> Passage | None:
    """Month first, as in the United States; day first where the other cannot be."""
    one, two = int(match["one"]), int(match["two"])
    month, day = (one, two) if one <= 12 and match["mark"] != "." else (two, one)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    year = match["year"]
    if len(year) == 2:
        year = f"{'20' if year < '50' else '19'}{year}"
    others = _date(year, day, month)[:1] if day <= 12 else []
    return whole(match, [*_date(year, month, day), *others])


def _date(year: str, month: int, day: int) -> list[str]:
    name, ordinal = MONTHS[month - 1], ordinal_readings(day)[0]
    years = year_readings(year)
    return [
        *(f"{name} {ordinal} {said}" for said in years[:2]),
        f"the {ordinal} of {name} {years[0]}",
        " ".join((in_words(month), in_words(day), years[0])),
    ]


def _no_year(match: re.Match[str]) -> Passage:
    month, day = int(match["one"]), int(match["two"])
    span = (match.end("hint"), match.end())
    said = [f"{MONTHS[month - 1]} {ordinal_readings(day)[0]}", f"{in_words(month)} {in_words(day)}"]
    return in_places([span], [(reading,) for reading in said])


def _time(match: re.Match[str]) -> Passage:
    hours, minutes = int(match["hours"]), int(match["minutes"])
    said = time_readings(hours, minutes)
    if match["seconds"]:
        tail = in_words(int(match["seconds"]))
        name = "second" if tail == "one" else "seconds"
        said = [f"{said[0]} and {tail} {name}", f"{said[0]} {tail}"]
    if not match["half"]:
        return whole(match, said)
    if not minutes:
        said = said[1:2]
    return _with_half(match, said, max(match.end("minutes"), match.end("seconds")))


def _hour(match: re.Match[str]) -> Passage:
    return _with_half(match, [in_words(int(match["hours"]))], match.end("hours"))


def _hours(match: re.Match[str]) -> Passage:
    both = f"{in_words(int(match['hours']))} to {in_words(int(match['till']))}"
    return _with_half(match, [both], match.end("till"))


def _with_half(match: re.Match[str], said: list[str], number_end: int) -> Passage:
    half = f"{match['half'].upper()} M"
    if match["gap"]:
        spans = [(match.start(), number_end), (match.start("half"), match.end())]
        return in_places(spans, [(number, half) for number in said])
    return whole(match, [f"{number} {half}" for number in said])


def _decade(match: re.Match[str]) -> Passage | None:
    tens = in_words(int(match["tens"]))
    if match["century"]:
        year = number_readings(match["century"] + match["tens"])[0]
        return whole(match, [plural(year)])
    return whole(match, [plural(tens)])


def plural(number: str) -> str:
    """The plural of a number's words: "nineteen nineties"."""
    return number[:-1] + "ies" if number.endswith("y") else number + "s"


def _years(match: re.Match[str]) -> Passage | None:
    year, till = match["year"], match["till"]
    if till and match["dash"] == "/" and len(till) == 4:
        return None
    if till:
        if not (is_year(till) or int(till) > int(year[2:])):
            return _year_month(match)
        short = year_readings(till)[0] if len(till) == 4 else in_words(int(till))
        joint = " " if match["dash"] == "/" else " to "
        both = [f"{said}{joint}{short}" for said in year_readings(year)]
        return whole(match, both)
    counted = _counts(match)
    if counted:
        return whole(match, [*quantity_readings(year)], sure=counted == "surely")
    hinted = _BEFORE_YEAR.search(match.string, max(0, match.start() - 12), match.start())
    if not hinted and not is_year(year):
        return None
    return whole(match, year_readings(year), sure=bool(hinted) or 1900 <= int(year) <= 2039)


def _year_month(match: re.Match[str]) -> Passage | None:
    """Read 2020-01 as a month, where it is no range of years, such as 2008-09."""
    month = match["till"]
    if match["dash"] != "-" or not 1 <= int(month) <= 12:
        return None
    return whole(
        match, [f"{MONTHS[int(month) - 1]} {year}" for year in year_readings(match["year"])]
    )


def _counts(match: re.Match[str]) -> str:
    """Whether the number is no year, as "1200 men": by what follows."""
    following = _COUNTED.match(match.string, match.end())
    if not following or following.group().split()[-1] in _SINGULAR:
        return ""
    return (
        "surely"
        if following.group().split()[-1] in {"people", "men", "women", "children"}
        else ("likely" if match["year"].endswith("00") else "")
    )


DATES = (
    Rule(_YEAR_FIRST, _year_first),
    Rule(_YEAR_LAST, _year_last),
    Rule(_MONTH_DAY, _month_day),
    Rule(_DAY_MONTH, _day_month),
    Rule(_MONTH_YEAR, _month_year),
    Rule(_NO_YEAR, _no_year),
    Rule(_WITH_NOUGHT, _no_year),
    Rule(_TIME, _time),
    Rule(_HOURS, _hours),
    Rule(_HOUR, _hour),
    Rule(_DECADE, _decade),
)
YEARS = (Rule(_YEARS, _years),)
