"""English abbreviations that a number or a name decides: No. 5, p. 5, Dr. Smith, Elm Dr."""

from __future__ import annotations

import re

from worker.text.spoken.passage import Passage, Rule, in_places, whole

_LABELS = {
    "No.": "number", "no.": "number", "Nos.": "numbers", "nos.": "numbers", "№": "number",
    "Nº": "number", "N°": "number", "p.": "page", "pp.": "pages", "Vol.": "volume",
    "vol.": "volume", "Ch.": "chapter", "ch.": "chapter", "Fig.": "figure", "fig.": "figure",
    "Figs.": "figures", "figs.": "figures", "Sec.": "section", "sec.": "section", "§": "section",
    "§§": "sections", "Art.": "article", "art.": "article", "Eq.": "equation", "eq.": "equation",
    "Ext.": "extension", "ext.": "extension", "Apt.": "apartment", "apt.": "apartment",
    "Rm.": "room", "Op.": "opus", "op.": "opus", "Tel.": "telephone", "tel.": "telephone",
    "Ver.": "version", "ver.": "version", "Pt.": "part", "pt.": "part", "Tab.": "table",
    "Hwy.": "highway", "#": "number", "approx.": "approximately", "ca.": "about", "c.": "about",
}  # fmt: skip
_LABEL = re.compile(
    rf"(?<!\w)(?P<label>{'|'.join(sorted(map(re.escape, _LABELS), key=len, reverse=True))})"
    r"(?P<gap> ?)(?=\+?\(?\d|[IVXL]+\b)"
)
_TITLES = {
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Prof": "Professor", "St": "Saint",
    "Mt": "Mount", "Ft": "Fort", "Gen": "General", "Col": "Colonel", "Capt": "Captain",
    "Lt": "Lieutenant", "Sgt": "Sergeant", "Maj": "Major", "Sen": "Senator", "Gov": "Governor",
    "Rev": "Reverend", "Hon": "Honorable", "Pres": "President", "Rep": "Representative",
}  # fmt: skip
_TITLE = re.compile(rf"(?<!\w)(?P<title>{'|'.join(_TITLES)})\.? (?=[A-Z][\w'’-]|(?:and|&) Mrs)")
_NEED_DOT = frozenset(
    {"St", "Mt", "Ft", "Gen", "Col", "Maj", "Sen", "Rev", "Hon", "Pres", "Rep", "Lt"}
)
_STREETS = {
    "St": "Street", "Dr": "Drive", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road",
    "Ln": "Lane", "Ct": "Court", "Pl": "Place", "Sq": "Square", "Hwy": "Highway", "Pkwy": "Parkway",
}  # fmt: skip
# Behind a name; the stop stays where it ends the sentence too.
_STREET = re.compile(
    rf"(?<=[a-z\d] )(?P<street>{'|'.join(_STREETS)})(?P<dot>\.(?= ?[a-z,;)]))?(?!\w)"
    r"(?! [A-Z][a-z]+ (?:said|is|was))"
)
_WORDS = {
    "vs.": "versus", "vs": "versus", "etc.": "et cetera", "e.g.": "for example", "i.e.": "that is",
    "Jr.": "Junior", "Sr.": "Senior", "dept.": "department", "Dept.": "Department",
    "w/o": "without", "w/": "with", "Inc.": "Incorporated", "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Bros.": "Brothers",
}  # fmt: skip
_WORD = re.compile(
    rf"(?<![\w.])(?:{'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})(?!\w)"
)


def _label(match: re.Match[str]) -> Passage:
    return in_places([match.span("label")], [(_LABELS[match["label"]],)])


def _title(match: re.Match[str]) -> Passage | None:
    title = match["title"]
    dotted = match.group().endswith(". ")
    before = (
        match.string[: match.start()].rsplit(None, 1)[-1:]
        if match.start() < 40
        else (match.string[match.start() - 30 : match.start()].rsplit(None, 1)[-1:])
    )
    # "on Elm Dr. He left": behind a name it is a street.
    name_before = bool(before) and before[0][:1].isupper() and before[0][-1:].isalpha()
    if (
        title in _STREETS
        and name_before
        and before[0] not in {"The", "And", "But", "Dear", "To", "If", "When", "In", "At"}
    ):
        return None
    if title in _NEED_DOT and not dotted:
        return None
    return in_places([(match.start(), match.end() - 1)], [(_TITLES[title],)])


def _street(match: re.Match[str]) -> Passage | None:
    before = match.string[max(0, match.start() - 30) : match.start()].split()
    if not before or not (before[-1][0].isupper() or before[-1][:1].isdigit()):
        return None
    if (
        not match["dot"]
        and not match.string.startswith(".", match.end())
        and match["street"] in {"Pl", "Sq", "Ct", "Dr"}
    ):
        return None
    return whole(match, [_STREETS[match["street"]]])


def _word(match: re.Match[str]) -> Passage:
    """Without its stop, unless that ends the sentence."""
    written = match.group()
    ends = written.endswith(".") and not re.match(
        r"[,;:)]| ?[a-z(\d]| [A-Z]", match.string[match.end() :][:3]
    )
    span = (match.start(), match.end() - ends)
    return in_places(
        [span],
        [(_WORDS[written] + (" " if match.string[span[1] : span[1] + 1].isalnum() else ""),)],
    )


LABELS = (Rule(_TITLE, _title), Rule(_STREET, _street), Rule(_WORD, _word), Rule(_LABEL, _label))
