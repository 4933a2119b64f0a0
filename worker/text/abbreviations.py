"""Full stops that belong to an abbreviation: 'Dr. Smith', 'Op. 27', '6 ft. 2 in.', 'Inc. in Bath'.

An abbreviation may end a sentence too, and no list can say whether it does: what follows decides.
In doubt the text is kept together, for a pause where none belongs is worse to hear than one that
the model makes by itself. What is no abbreviation ends a sentence before anything but lower case:
'I came in. 27 people were there.'
"""

from __future__ import annotations

import regex

LONGEST = 24  # characters before a full stop that are looked at

# "Sun" and "sat" are words too, so these are abbreviations before numbers and each other only.
_DAYS = "Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun"
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_DAY = regex.compile(_DAYS)
_DATE = regex.compile(f"{_DAYS}|{_MONTHS}|May|June|July")

_NEVER_LAST = regex.compile(r"e\.g|i\.e|[Vv]s|v|[Cc]f|viz|a\.k\.a|incl|excl|esp")
# The last word of a sentence only if the next one is of those that mostly begin one.
_SELDOM_LAST = regex.compile(
    # before names
    "Mr|Mrs|Ms|Mx|Drs?|Profs?|Rev|Hon|St|Mt|Mtn|Ft|Gens?|Col|Lt|Sgt|Cpl|Pvt|Capt|Cmdr|Cdr|Maj|Brig|"
    "Adm|Com|Ens|Sens?|Reps?|Govs?|Pres|Supt|Insp|Det|Atty|Amb|Treas|Messrs|Mme|Mlle|Msgr|Fr|Br|Bp|"
    # after names
    "Jr|Sr|Esq|Inc|Ltd|[Cc]os?|Corp|Bros|Assn|Assoc|Univ|Inst|Intl|Natl|Govt|Mfg|Div|Dist|"
    "Ave|Blvd|Rd|Ln|Ct|Pl|Sq|Pkwy|Expy|Hwy|Rte|Twp|Bldg|"
    # anywhere
    f"al|[Dd]ept|[Ee]st|approx|ca|eds|edn|trans|[Ss]uppl|{_MONTHS}"
)
# Before a number, a letter or a Roman number: "Op. 27", "Apt. B", "Vol. IV". They are no words, or
# such as are seldom said last.
_BEFORE_LABELS = (
    "[Oo]pp?|[Tt]els?|[Ee]xt|[Aa]pt|[Hh]wy|[Tt]abs?|[Tt]bl|[Vv]er|[Vv]ers|[Ss]te|[Rr]m|[Ff]l|[Ff]lr|"
    "[Bb]ldg|[Bb]ks?|[Pp]aras?|App|Ex|[Pp]ts?|Ser|[Vv]ols?|[Ff]igs?|[Ee]qs?|[Cc]h|[Cc]haps?|Arts?|"
    "[Ss]ect|Cl|[Ss]ched|Thm|Suppl|[Rr]te|Rt|Mk|Pl"
)
_LABELLED = regex.compile(_BEFORE_LABELS)
_LABEL = regex.compile(r"\p{Lu}\d*|[IVXLC]{2,7}")
_BEFORE_NUMBERS = regex.compile(
    rf"{_BEFORE_LABELS}|{_DAYS}|[Nn]os?|[Nn]°|Nr|pp?|pgs?|Pgs?|ll|nn|[Ss]ecs?|arts?|[Ee]ds?|Edn|Prop|"
    "Lem|Def|Cor|Doc|Sch|Reg|[Rr]efs?|[Ii]ss|Fax|Mob|[Mm]in|[Mm]ax|[Aa]vg|Temp|[Ww]t|[Hh]t|Pop|[Ee]lev|"
    "Hrs?|[Qq]ty|[Aa]mt|[Aa]cct|Inv|Pkg|Cert|Lic|Wk|Yr|Gr|Lvl|[Ee]p|Blk|Exp|Cat|Stat|Amdt|BWV|[Rr]s|"
    "Exod|Lev|Deut|Ps|Prov|Eccl|Isa|Jer|Ezek|Lk|Jn|Rom|Eph|Thess|Heb|Kgs|Chr|"
    "Calif|Conn|Mich|Minn|Wash|Ariz|Colo|Fla|Okla|Tenn|Tex|Wis|Wyo|Nev|Neb|Ore|Va|Vt|Pa|Ga|Md|Ky|"
    "[a-z]"
)
# A measure in two units: "6 ft. 2 in.". "in", "min" and the like are words, unless behind a number.
_UNIT = regex.compile(
    "ft|in|yds?|mi|lbs?|ozs?|st|hrs?|h|mins?|m|secs?|s|deg|gals?|qts?|pts?|tsp|tbsp|km|cm|mm|kg|g|mg|"
    "ml|l|yrs?|mos?|wks?|d|doz|cwt|cal|[Ff]t|Ins?|[Ll]bs?|Oz|Yds?|Hrs?|Mins?|Secs?"
)
_SURE_UNIT = regex.compile("ft|lbs?|ozs?|yds?|hrs?|mins|tsp|tbsp|km|cm|mm|kg|Ft|Lbs?|Oz")
_COUNTED = regex.compile(
    r"(?:[\d½¼¾⅓⅔⅛]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half|twenty|"
    r"thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred))[ -]?$",
    regex.IGNORECASE,
)
_SQUARE = regex.compile("[Ss]q|[Cc]u")  # sq. ft.
_DOTTED = regex.compile(r"[A-Z]|\d*(?:\p{L}{1,2}\.)+\p{L}{1,2}")  # J. U.S. a.m. Ph.D.
_NUMBER = regex.compile(r"\p{N}")
_HAN = regex.compile(r"\p{Han}")
_WORD = regex.compile(r"[^\W_]")
_TOKEN = regex.compile(r"[\p{Latin}\d.°]*+$")
_FIRST = regex.compile(
    "A|After|All|Although|An|And|Are|As|At|Because|Before|But|By|Can|Could|Did|Do|Does|Don|Each|"
    "Even|Every|Everybody|Everyone|For|From|Had|Has|Have|He|Her|Here|His|How|However|I|If|In|Is|"
    "It|Its|Let|Many|Maybe|Most|My|Nobody|No|Not|Nothing|Now|Of|On|Once|One|Only|Or|Other|Others|"
    "Our|Perhaps|Please|See|She|Should|Since|So|Some|Somebody|Someone|Soon|Still|Such|That|The|"
    "Their|Then|There|These|They|This|Those|Though|Thus|To|Today|Tomorrow|Until|Was|We|Well|Were|"
    "What|When|Where|Which|While|Who|Why|Will|With|Would|Yes|Yesterday|Yet|You|Your"
)
# What a line may not end with and be whole, whoever comes next.
_BEFORE_NAMES = regex.compile(
    "Mr|Mrs|Ms|Mx|Drs?|Profs?|Rev|Hon|St|Mt|Gens?|Lt|Sgt|Cpl|Capt|Cmdr|Maj|Sens?|Reps?|Govs?|Messrs|"
    "Mme|Mlle|Msgr"
)


def begins_sentences(word: str) -> bool:
    """Whether this is one of the words, as written, that mostly begin a sentence."""
    return _FIRST.fullmatch(word) is not None


def is_abbreviated(before: str, word: str, *, dot: bool) -> bool:
    """Whether a full stop belongs to the word before it and ends no sentence.

    `before` is the sentence up to the full stop, or its last LONGEST characters; `word` is the word
    that follows and `dot` whether that has a full stop of its own.
    """
    token, number = _token(before), _NUMBER.match(word) is not None
    if _is_listed(before, token) or _NEVER_LAST.fullmatch(token):
        return True
    if number:
        return _is_before_numbers(before, token)
    if _is_before(token, word):
        return True
    if _SELDOM_LAST.fullmatch(token) or _DOTTED.fullmatch(token):
        return dot or not begins_sentences(word)  # the A of J. A. Smith is no word
    return False


def may_be_abbreviated(before: str) -> bool:
    """Whether the word that follows a full stop may say that it belongs to the word before it."""
    token = _token(before)
    return bool(_SQUARE.fullmatch(token)) or _is_before_numbers(before, token)


def wants_more(before: str, word: str) -> bool:
    """Whether a line that ends with this and a full stop is not whole before `word`."""
    token = _token(before)
    if _BEFORE_NAMES.fullmatch(token) or _NEVER_LAST.fullmatch(token):
        return True
    if regex.fullmatch("[A-Z]", token):  # an initial
        return word[:1].isupper() and not begins_sentences(word)
    if not word[:1].isdigit():
        return False
    return _BEFORE_NUMBERS.fullmatch(token) is not None or _is_unit(before, token)


def _token(before: str) -> str:
    """The word before a full stop, with those within it: a.m, but Mr of 'on Tuesday.Mr'."""
    token = str(next(_TOKEN.finditer(before))[0])
    last = token.rpartition(".")[2]
    return last if len(last) > 1 and not _DOTTED.fullmatch(token) else token


def _is_listed(before: str, token: str) -> bool:
    """Whether the sentence began with the mark of a list, 1. or a."""
    marks = before.removesuffix(token)
    return (token.isdigit() or len(token) == 1) and len(before) < 8 and not _WORD.search(marks)


def _is_before(token: str, word: str) -> bool:
    """Whether these two belong together."""
    if _LABEL.fullmatch(word) and _LABELLED.fullmatch(token):
        return token[0].isupper() or not begins_sentences(word)  # Close the tab. I will
    if _SQUARE.fullmatch(token):
        return _UNIT.fullmatch(word) is not None
    if _HAN.match(word) and _UNIT.fullmatch(token):
        return True
    return _DATE.fullmatch(word) is not None and _DAY.fullmatch(token) is not None


def _is_before_numbers(before: str, token: str) -> bool:
    lists = (_BEFORE_NUMBERS, _SELDOM_LAST, _DOTTED)
    return any(listed.fullmatch(token) for listed in lists) or _is_unit(before, token)


def _is_unit(before: str, token: str) -> bool:
    """Whether this is the unit of a measure."""
    unit = token.lstrip("0123456789.")
    if not _UNIT.fullmatch(unit):
        return False
    return bool(_SURE_UNIT.fullmatch(unit) or _COUNTED.search(before.removesuffix(unit)))
