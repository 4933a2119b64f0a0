"""Chinese numbers that are no amounts: telephones, scores, parts, names, ranges."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from itertools import product

from worker.text.spoken.chinese_patterns import DASH, ONE, START, quantity, value_readings
from worker.text.spoken.chinese_tables import MEASURES
from worker.text.spoken.chinese_values import cardinal, number_readings, spelled
from worker.text.spoken.passage import Passage, Rule, in_places, whole
from worker.text.spoken.patterns import NUMBER
from worker.text.spoken.roman import value_of

_TELEPHONE = re.compile(
    r"(?<![\d.,+-])(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?![\d-])"
    r"|(?<![\d.,-])(?:\+\d{1,3}(?:[ -]\d{2,5}){2,5}|0\d{2,3}-\d{7,8}"
    r"|[48]00-\d{3,4}-?\d{3,4}|\d{3,4}-\d{4}(?:-\d{4})?)(?![\d-])"
)
_SPELLED_AFTER = re.compile(
    r"(?:电话|手机|热线|拨打|拨|致电|号码|编号|房间|密码|验证码|代码|尾号|QQ|航班)"
    r"(?:是|为|号|：|:| )*$"
)
_NUMBER_OF = re.compile(rf"{START}\d{{3,20}}(?!\d|[.,]\d)")
_SHORT_CALL = re.compile(
    r"(?<=[打拨叫线话])(?:11[09]|12[02]|12345|12306|10086|10010|10000|1\d{4}|95\d{3})(?![\d.,%])"
    r"|(?<!\d)(?:911|315|996|985|211)(?=事件|恐|晚会|工作|高校|大学|工程|院校)"
)
_RATIO = re.compile(rf"{START}(?P<low>\d{{1,3}}) ?[:比] ?(?P<high>\d{{1,3}})(?![\d:])")
_SCORED = re.compile(
    rf"{START}(?P<low>\d{{1,3}})-(?P<high>\d{{1,3}})(?=(?:战胜|击败|胜|负|领先|落后|逆转|大胜|险胜|战平))"
)
_FRACTION = re.compile(rf"{START}(?P<top>\d{{1,3}})[/⁄](?P<bottom>[1-9]\d{{0,2}})(?![\d/])")
_VULGAR = re.compile(rf"{START}(?P<whole>\d{{1,9}})?(?P<part>[¼½¾⅐-⅞])")
_FIXED = {"24/7": "二十四小时七天", "7/24": "七乘二十四小时", "7×24": "七乘二十四"}
_TWO = re.compile(
    rf"{START}2(?= ?(?:[{MEASURES}]|小时|分钟|星期|公里|公斤|百|千米|英)(?!月))"
    r"(?!月|号|日|楼|班|级)"
)
_SERIAL = re.compile(r"(?<=第) ?(?P<low>\d{1,15})(?!\d|[.,]\d)")
_ROMAN = re.compile(
    r"(?<=第)(?P<numeral>[IVXLCM]{1,9})(?![A-Za-z])|(?<![A-Za-z])(?P<alone>M{1,3}[DCLXVI]{2,12})(?![A-Za-z])"
)
_RANGE = re.compile(rf"{ONE}{DASH}(?P<high>{NUMBER})")
_VERSION = re.compile(
    r"(?<![A-Za-z\d.])(?P<v>[vV])?(?P<parts>\d{1,9}(?:\.\d{1,9}){2,7})(?![\d.]*\d)"
)
_CODE = re.compile(
    r"(?<![A-Za-z\d])(?<!\d\.)(?=[A-Za-z-]*\d)(?:[A-Za-z]+-?\d++(?:\.\d++)?|\d++(?:\.\d++)?[A-Za-z]+)"
    r"(?:-?[A-Za-z\d])*(?![A-Za-z\d]|\.\d)"
)
_PLAIN = re.compile(rf"{ONE}")
_POINT = re.compile(r"(?<![\d.,A-Za-z])\.(?P<digits>\d{1,30})")
_DIGITS = re.compile(r"\d+")


def _telephone(match: re.Match[str]) -> Passage:
    groups = re.findall(r"\d+", match.group())
    plus = "加" if match.group().startswith("+") else ""
    said = plus + "，".join(spelled(group, one="幺") for group in groups)
    return whole(match, [said, plus + "".join(spelled(group) for group in groups)])


def _number_of(match: re.Match[str]) -> Passage | None:
    before = match.string[max(0, match.start() - 8) : match.start()]
    number = match.group()
    if not (_SPELLED_AFTER.search(before) or len(number) > 12 or number.startswith("0")):
        return None
    return whole(match, [spelled(number, one="幺"), spelled(number), *value_readings(number)[:1]])


def _short_call(match: re.Match[str]) -> Passage:
    number = match.group()
    one = "一" if number in {"211", "315"} else "幺"
    return whole(match, [spelled(number, one=one), spelled(number), *value_readings(number)])


def _ratio(match: re.Match[str]) -> Passage:
    return whole(match, [f"{cardinal(int(match['low']))}比{cardinal(int(match['high']))}"])


def _scored(match: re.Match[str]) -> Passage:
    return _ratio(match)


def _fraction(match: re.Match[str]) -> Passage:
    if match.group() in _FIXED:
        return whole(match, [_FIXED[match.group()]])
    top, bottom = cardinal(int(match["top"])), cardinal(int(match["bottom"]))
    sure = int(match["top"]) < int(match["bottom"])
    return whole(match, [f"{bottom}分之{top}"], sure=sure)


def _vulgar(match: re.Match[str]) -> Passage | None:
    part = Fraction(unicodedata.numeric(match["part"])).limit_denominator(10)
    said = f"{cardinal(part.denominator)}分之{cardinal(part.numerator)}"
    return whole(
        match, [f"{value_readings(match['whole'])[0]}又{said}" if match["whole"] else said]
    )


def _two(match: re.Match[str]) -> Passage:
    return whole(match, ["两", "二"])


def _serial(match: re.Match[str]) -> Passage:
    return in_places([match.span("low")], [(n,) for n in value_readings(match["low"])])


def _roman(match: re.Match[str]) -> Passage | None:
    numeral = match["numeral"] or match["alone"]
    value = value_of(numeral)
    if value is None:
        return None
    said = [spelled(str(value)), cardinal(value)] if match["alone"] else [cardinal(value)]
    return whole(match, said)


def _range(match: re.Match[str]) -> Passage | None:
    if re.match(r" ?=", match.string[match.end() : match.end() + 2]):
        return None
    return whole(match, quantity(match))


def _version(match: re.Match[str]) -> Passage:
    said = "点".join(number_readings(part)[0] for part in match["parts"].split("."))
    return whole(match, [f"{match['v'] or ''}{said}"])


def _code(match: re.Match[str]) -> Passage:
    parts = re.findall(r"(?<=\d)\.\d+|\d+|[A-Za-z]+", match.group())
    choices = [
        [part]
        if part.isalpha()
        else [f"点{spelled(part[1:])}"]
        if part.startswith(".")
        else ([spelled(part)] if len(part) > 2 or part.startswith("0") else [cardinal(int(part))])
        for part in parts
    ]
    return whole(match, [" ".join(one).replace(" 点", "点") for one in product(*choices)])


def _plain(match: re.Match[str]) -> Passage:
    number = match["low"]
    long = number.isdigit() and len(number) > 9 and not number.endswith("000")
    if long:
        return whole(match, [spelled(number), *quantity(match)], sure=False)
    return whole(match, quantity(match))


def _point(match: re.Match[str]) -> Passage:
    return whole(match, [f"点{spelled(match['digits'])}"])


def _digits(match: re.Match[str]) -> Passage:
    return whole(match, [spelled(match.group())])


RATIOS = (Rule(_RATIO, _ratio),)
CODES = (
    Rule(_TELEPHONE, _telephone),
    Rule(_SHORT_CALL, _short_call),
    Rule(_NUMBER_OF, _number_of),
    Rule(_VERSION, _version),
)
PARTS = (Rule(_FRACTION, _fraction), Rule(_VULGAR, _vulgar))
NUMBERS = (
    Rule(_SCORED, _scored),
    Rule(_ROMAN, _roman),
    Rule(_CODE, _code),
    Rule(_SERIAL, _serial),
    Rule(_RANGE, _range),
    Rule(_TWO, _two),
    Rule(_PLAIN, _plain),
    Rule(_POINT, _point),
)
DIGITS_LEFT = (Rule(_DIGITS, _digits),)
