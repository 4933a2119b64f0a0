"""Chinese dates, years and times of day."""

from __future__ import annotations

import re

from worker.text.spoken.chinese_patterns import DASH, START
from worker.text.spoken.chinese_values import cardinal, spelled, time_readings
from worker.text.spoken.passage import Passage, Reading, Rule, Span, in_places, whole

_DATE = re.compile(
    rf"{START}(?P<year>\d{{4}}|\d{{2}}(?=年\d))(?P<y> ?年 ?)(?P<month>1[0-2]|0?[1-9])(?P<m> ?月)"
    r"(?: ?(?P<day>3[01]|[12]\d|0?[1-9])(?P<d>[日号號]))?"
)
_MONTH_DAY = re.compile(
    rf"{START}(?P<month>1[0-2]|0?[1-9])(?P<m> ?月 ?)(?P<day>3[01]|[12]\d|0?[1-9])(?P<d>[日号號])"
)
_PLAIN_DATE = re.compile(
    rf"{START}(?P<year>[12]\d{{3}})(?P<mark>[-/.])(?P<month>1[0-2]|0?[1-9])(?P=mark)"
    r"(?P<day>3[01]|[12]\d|0?[1-9])(?![\d/-]|\.\d)"
)
_YEAR = re.compile(
    rf"{START}(?P<year>[12]\d{{3}})(?:{DASH}(?P<till>[12]\d{{3}}))?"
    r"(?= ?年(?![多来]|以[上内])| ?(?:年代|届|级|版)) ?"
)
_DECADE = re.compile(rf"{START}(?P<year>\d0|[12]\d\d0)(?=年代|后)")
_TIME = re.compile(
    r"(?<![\d:])(?P<hours>[01]?\d|2[0-4]):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?(?![\d:])"
)


def _year(year: str) -> str:
    """A year digit by digit, but a round thousand as a number."""
    return cardinal(int(year)) if int(year) % 1000 == 0 and year != "2000" else spelled(year)


def _date(match: re.Match[str]) -> Passage:
    spans: list[Span] = [match.span("year"), match.span("month")]
    said: Reading = (spelled(match["year"]), cardinal(int(match["month"])))
    if match["day"]:
        spans.append(match.span("day"))
        said = (*said, cardinal(int(match["day"])))
    return in_places(spans, [said])


def _month_day(match: re.Match[str]) -> Passage:
    said = (cardinal(int(match["month"])), cardinal(int(match["day"])))
    return in_places([match.span("month"), match.span("day")], [said])


def _plain_date(match: re.Match[str]) -> Passage:
    year, month, day = spelled(match["year"]), int(match["month"]), int(match["day"])
    said = f"{year}年{cardinal(month)}月{cardinal(day)}"
    return whole(match, [f"{said}日", f"{said}号"])


def _years(match: re.Match[str]) -> Passage:
    end = match.end("till") if match["till"] else match.end("year")
    till = f"到{_year(match['till'])}" if match["till"] else ""
    said = [_year(match["year"]) + till]
    if not till:
        said.append(cardinal(int(match["year"])))
    return in_places([(match.start(), end)], [(one,) for one in said])


def _decade(match: re.Match[str]) -> Passage:
    year = match["year"]
    said = (
        f"{spelled(year[:2])}{cardinal(int(year[2:]))}" if len(year) == 4 else cardinal(int(year))
    )
    if len(year) == 2 and match.string.startswith("后", match.end()):
        return whole(match, [spelled(year), said])
    return whole(match, [said, spelled(year)])


def _time(match: re.Match[str]) -> Passage:
    said = time_readings(int(match["hours"]), int(match["minutes"]))
    if match["seconds"]:
        zero = "零" if match["seconds"].startswith("0") else ""
        minutes = int(match["minutes"])
        head = said[0] if minutes else f"{said[0]}零分"
        said = [f"{head}{zero}{cardinal(int(match['seconds']))}秒"]
    return whole(match, said)


DATES = (
    Rule(_DATE, _date),
    Rule(_MONTH_DAY, _month_day),
    Rule(_PLAIN_DATE, _plain_date),
    Rule(_YEAR, _years),
    Rule(_DECADE, _decade),
    Rule(_TIME, _time),
)
