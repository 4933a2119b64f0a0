"""Roman numerals in English text: chapters, kings, years."""

from __future__ import annotations

import re

from worker.text.spoken.english_values import (
    in_words,
    is_year,
    ordinal_readings,
    quantity_readings,
    year_readings,
)
from worker.text.spoken.passage import Passage, Rule, in_places

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_NUMERAL = r"(?P<numeral>[IVXLCDM]{1,15})(?![\w'’&/]|[.](?=[A-Z]))"
_CANONICAL = re.compile("M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_LABELLED = re.compile(
    r"(?<!\w)(?:Chapter|Part|Book|Act|Scene|Volume|Vol\.|Section|Article|Appendix|Phase|Type|Level|"
    r"World War|War|Bowl|Title|Class|Grade|Round|Stage|Mark|Tier|Unit|Episode|Season|Figure|Table|"
    r"Canto|Psalm|No\.|Nos\.|Group|Schedule|Theorem|Lemma|Category|Division|Module|Step|"
    "chapter|part|book|act|scene|volume|section|article|appendix|phase|type|stage|level)"
    rf" {_NUMERAL}"
)
_KINGS = (
    "Alexander|Alfonso|Andrew|Anne|Antiochus|Baldwin|Benedict|Boniface|Carl|Catherine|Charles|"
    "Christian|Clement|Constantine|Darius|Edmund|Edward|Elizabeth|Eric|Ferdinand|Francis|Franz|"
    "Frederick|Friedrich|George|Gregory|Gustav|Haakon|Harald|Henri|Henry|Hussein|Innocent|Isabella|"
    "Ivan|James|John|Joseph|Juan Carlos|Julius|Justinian|Karl|Leo|Leopold|Louis|Margaret|"
    "Maria|Mary|Maximilian|Mehmed|Michael|Napoleon|Nicholas|Olaf|Oscar|Otto|Paul|Pedro|Peter|Philip|"
    "Pius|Ptolemy|Ramesses|Ramses|Richard|Robert|Rudolf|Selim|Sigismund|Sixtus|Stephen|Suleiman|"
    "Theodosius|Thutmose|Urban|Victor|Victoria|Vladimir|Wilhelm|William|Xerxes"
)
_KING = re.compile(rf"(?<!\w)(?:{_KINGS}) {_NUMERAL}")
_NAMED = re.compile(rf"(?<=[a-z] ){_NUMERAL}")
_WORLD_WAR = re.compile(r"(?<!\w)WW(?P<numeral>I{1,3})(?!\w)")
_ALONE = re.compile(rf"(?<![\w.'’&/]){_NUMERAL}")
# Numerals that are mostly something else.
_WORDS = frozenset({"IV", "VI", "XX", "XXX", "MIX", "MMX"})


def value_of(numeral: str) -> int | None:
    """The number that a Roman numeral stands for; None where it is none."""
    if not numeral or not _CANONICAL.fullmatch(numeral):
        return None
    values = [_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _labelled(match: re.Match[str]) -> Passage | None:
    """Behind a word that numbers things; "Type C" is a letter, and in "the part I like" I am I."""
    numeral = match["numeral"]
    if numeral in {"C", "D", "L", "M"}:
        return None
    if numeral == "I" and (match.group()[0].islower() or _goes_on_as_i(match)):
        return None
    return _cardinal(match)


def _cardinal(match: re.Match[str]) -> Passage | None:
    value = value_of(match["numeral"])
    if value is None:
        return None
    said = quantity_readings(str(value))
    if match.string.startswith(" century", match.end()):
        said = [*ordinal_readings(value), *said]
    return in_places([match.span("numeral")], [(one,) for one in said])


def _king(match: re.Match[str]) -> Passage | None:
    value = value_of(match["numeral"])
    if value is None or value > 30 or (value == 1 and _goes_on_as_i(match)):
        return None
    ordinal = ordinal_readings(value)[0]
    said = (f"the {ordinal}", ordinal, in_words(value))
    return in_places([match.span("numeral")], [(one,) for one in said])


def _goes_on_as_i(match: re.Match[str]) -> bool:
    """Whether an I is the speaker: "Dear Mary I am"."""
    return bool(
        re.match(
            r",? (?:am|was|have|had|will|would|can|could|do|did|think|know|want|need|love|see)\b",
            match.string[match.end() :][:12],
        )
    )


def _named(match: re.Match[str]) -> Passage | None:
    """Behind a name: Rocky IV. One letter alone is more often a letter."""
    word = re.search(r"[A-Z][a-z]+ $", match.string[max(0, match.start() - 24) : match.start()])
    if len(match["numeral"]) < 2 or not word or set(match["numeral"]) - set("IVX"):
        return None
    return _cardinal(match)


def _world_war(match: re.Match[str]) -> Passage:
    number = in_words(len(match["numeral"]))
    return in_places([match.span()], [(f"World War {number}",), (f"W W {number}",)])


def _alone(match: re.Match[str]) -> Passage | None:
    numeral = match["numeral"]
    value = value_of(numeral)
    if value is None or len(numeral) < 2 or numeral in _WORDS:
        return None
    if set(numeral) - set("IVX") and not (numeral.startswith("M") and len(numeral) > 3):
        return None
    if is_year(str(value)):
        said = year_readings(str(value))
        return in_places([match.span("numeral")], [(one,) for one in said], sure=len(numeral) > 3)
    return _cardinal(match)


ROMAN = (
    Rule(_WORLD_WAR, _world_war),
    Rule(_LABELLED, _labelled),
    Rule(_KING, _king),
    Rule(_NAMED, _named),
    Rule(_ALONE, _alone),
)
