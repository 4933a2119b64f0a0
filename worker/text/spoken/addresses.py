"""Web and e-mail addresses, read out: words as words, marks by name, digits one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from worker.text.spoken import chinese_values
from worker.text.spoken.english_values import digit_readings
from worker.text.spoken.passage import Passage, Rule, whole

_DOMAINS = (
    "com|org|net|edu|gov|mil|int|io|ai|co|uk|us|de|fr|eu|cn|jp|in|ca|au|ru|dev|app|info|biz|me|tv|ly|"
    "gg|xyz|online|shop|site|tech|cloud|blog|news|hk|tw|sg|kr"
)
_NOT_IN_ONE = r"\s<>\"'“”‘’，。；！？）」』、\u4e00-\u9fff"
_REST = rf"(?:[/?#:][^{_NOT_IN_ONE}]*)?"
_LABEL = "[A-Za-z0-9][A-Za-z0-9-]*"
_BEHIND = "(?<![A-Za-z0-9.-])"
_WEB = re.compile(
    rf"{_BEHIND}(?:https?|ftp)://[^{_NOT_IN_ONE}]+"
    rf"|{_BEHIND}(?<!/)(?:www\.(?=[A-Za-z0-9-])[A-Za-z0-9.-]+"
    rf"|{_LABEL}(?:\.{_LABEL}){{0,4}}\.(?:{_DOMAINS})(?![A-Za-z0-9-]|\.[A-Za-z0-9])){_REST}",
    re.IGNORECASE,
)
_MAIL = re.compile(
    rf"(?<![A-Za-z0-9.%+-])[A-Za-z0-9_.%+-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+", re.IGNORECASE
)
_CLOSING = ".,;:!?)]}*_~"
_PIECE = re.compile(r"www|\d+|[^\W\d_]+|.", re.IGNORECASE | re.DOTALL)
_ENGLISH = {
    ".": "dot", "/": "slash", "_": "underscore", "-": "dash", "@": "at", ":": "colon",
    "?": "question mark", "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus",
    "~": "tilde", ",": "comma", ";": "semicolon", "!": "exclamation mark",
}  # fmt: skip
_CHINESE = {
    ".": "点", "/": "斜杠", "_": "下划线", "-": "杠", "@": "艾特", ":": "冒号", "?": "问号",
    "=": "等于", "&": "和", "#": "井号", "%": "百分号", "+": "加", "~": "波浪号",
}  # fmt: skip


def _english(match: re.Match[str]) -> Passage:
    return _read(match, _ENGLISH, lambda digits: digit_readings(digits)[0])


def _chinese(match: re.Match[str]) -> Passage:
    return _read(match, _CHINESE, chinese_values.spelled)


def _read(match: re.Match[str], marks: Mapping[str, str], digits: Callable[[str], str]) -> Passage:
    """Read an address without its scheme, which nobody reads out, and without what closes it."""
    written = match.group()
    kept = written.rstrip(_CLOSING)
    address = kept.partition("://")[2] if "://" in kept else kept
    parts: list[str] = []
    for piece in _PIECE.findall(address):
        if piece.isdecimal():
            parts.append(digits(piece))
        elif piece.lower() == "www":
            parts.append("W W W")
        elif piece[0].isalpha():
            parts.append(piece)
        else:
            parts.append(marks.get(piece, ""))
    said = " ".join(filter(None, parts))
    passage = whole(match, [said])
    return Passage(((match.start(), match.start() + len(kept)),), passage.readings)


ENGLISH_ADDRESSES = (Rule(_MAIL, _english), Rule(_WEB, _english))
CHINESE_ADDRESSES = (Rule(_MAIL, _chinese), Rule(_WEB, _chinese))
