"""What a line of text looks like, as far as that tells whether its sentence goes on behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import regex

from worker.text.abbreviations import begins_sentences
from worker.text.words import HAN

WIDEST = 140  # columns; text is not wrapped wider
_VERSE = 60  # columns; verses are shorter
_CHINESE_VERSE = 30
_FULL = 0.75  # of the width of a paragraph
_END = 48  # characters
_FAR = 30  # characters at the beginning of a line, of which the first word is one

WIDE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}，。、；：！？（）《》「」『』【】"
_WIDE = regex.compile(f"[{WIDE}]")
_HAN = regex.compile(f"[{HAN}]")
_STOPPED = regex.compile(r"[.!?…。！？｡．][\"'”’»」』›)\]}】〉》〕）］｝*_~]*+$")
_COLON = regex.compile(r"[:：][\"'”’»」』*_]*+$")

# A speaker or a field: ANNA or Name with a colon, or 张三 with a wide one.
SPEAKER = regex.compile(
    r"[\"“*_]*+(?:\p{Lu}[\w.'’-]*+(?: \p{Lu}[\w.'’-]*+){0,2}: |[\p{Han}]{1,6}[：:])"
)
# The marks, the word and what comes at once behind it.
_HEAD = regex.compile(r"(?P<marks>[^\w\s]*+)(?P<gap>\s?)(?P<word>\w*+)(?P<after>.?)(?P<then>.?)")
_TOKEN = regex.compile(f"[{WIDE}]|[^\\s{WIDE}]*+")
_PLAIN = regex.compile(r"\p{Ll}{5}")  # no number or letter of a list
_NUMERAL = regex.compile(r"[ivx]{1,5}|[IVX]{1,5}|[一二三四五六七八九十]{1,3}|\p{L}")
_BULLETS = regex.compile(r"[-|–—*•·▪◦‣⁃●○■□+#>]+")
_WORD = regex.compile(r"[^\W_]+")


@dataclass(frozen=True)
class LineShape:
    """A line as far as the next one needs it: `grown` part by part, for it may be endless."""

    start: str = ""  # up to WIDEST characters
    end: str = ""
    columns: int = 0  # a Chinese character has two
    has_han: bool = False
    quoted: int = 0  # how many marks of an e-mail's quotation stood before it

    def grown(self, part: str) -> LineShape:
        """The line with this part behind it."""
        return replace(
            self,
            start=self.start + part[: WIDEST - len(self.start)],
            end=(self.end + part)[-_END:],
            columns=self.columns + columns_of(part),
            has_han=self.has_han or has_han(part),
        )

    @property
    def verse(self) -> int:
        """How many columns a line of its language has that is too long for a verse."""
        return _CHINESE_VERSE if self.has_han else _VERSE

    @property
    def stops(self) -> bool:
        """Whether it ends with a mark that may end a sentence."""
        return _STOPPED.search(self.end) is not None

    @property
    def announces(self) -> bool:
        """Whether it ends with a colon."""
        return _COLON.search(self.end) is not None

    @property
    def shouts(self) -> bool:
        """Whether all its letters are capitals."""
        return self.start.isupper()

    @property
    def is_title(self) -> bool:
        """Whether it is written as a title is: Each Word or EVERY LETTER in capitals."""
        words = _WORD.findall(self.start)
        weighty = [word for word in words if len(word) >= 4 and word[0].isalpha()]
        return len(weighty) >= 3 and all(word[0].isupper() for word in weighty)


@dataclass(frozen=True)
class LineStart:
    """How a line begins.

    `kind` is `lower` (a word in lower case), `first` (one that mostly begins a sentence), `name`
    (any other in capitals, and any in quotation marks), `number`, `bracket`, `wide` (a Chinese
    character), `item` (a list's mark) or `label` (1. or A., which may be an item's).
    """

    kind: str
    columns: int  # of the first word, or of what cannot be parted from it
    word: str
    whole: bool = True  # whether the first word cannot grow

    def room(self, columns: int) -> int:
        """The columns of a line of `columns` with this word behind it."""
        spaced = self.kind != "wide"
        return columns + spaced + self.columns

    def fills(self, columns: int, width: int) -> bool:
        """Whether a line is full to which this word cannot be added, in a paragraph of a width."""
        return self.room(columns) > _FULL * width


def columns_of(text: str) -> int:
    """The width of a text: two for a Chinese character, one for another."""
    return len(text) + len(_WIDE.findall(text))


def has_han(text: str) -> bool:
    """Whether the text holds a Chinese character."""
    return _HAN.search(text) is not None


def is_wide(character: str) -> bool:
    """Whether this is a Chinese character or mark, beside which no space belongs."""
    return _WIDE.match(character) is not None


def start_of(text: str, *, whole: bool) -> LineStart | None:
    """How a line begins; nothing where that is not known before more of it is there."""
    head = next(_HEAD.finditer(text))
    marks, word, after = str(head["marks"]), str(head["word"]), str(head["after"])
    token = next(_TOKEN.finditer(text))[0]
    width, ended = columns_of(token), whole or len(token) < len(text)
    if not marks and _PLAIN.match(word):
        return LineStart("lower", width, word, ended)
    wide = bool(word) and is_wide(word[0])
    known = whole or bool(head["then"]) or len(text) > _FAR or (wide and len(word) > 3)
    if not known:
        return None
    if marks == "&":
        return LineStart("lower", width, word, ended)
    if head["gap"] and _BULLETS.fullmatch(marks):
        aside = marks in {"–", "—"} and word[:1].islower()  # not a list's
        return LineStart("lower" if aside else "item", width, word, ended)
    kind = _listed(marks, word, after, str(head["then"])) or ("" if word else "item")
    return LineStart(kind or ("wide" if wide else _kind(marks, word)), width, word, ended)


def _listed(marks: str, word: str, after: str, then: str) -> str:
    """The kind of a line that may be an item of a list: `item`, `label` or neither."""
    if marks and marks[-1] in "•▪◦‣⁃●○■□":
        return "item"
    numeral = _NUMERAL.fullmatch(word) is not None or (word.isdigit() and len(word) <= 3)
    if not numeral or not after or marks not in {"", "(", "（"}:
        return ""
    if after == "）" or (after == ")" and then in {"", " "}) or (after == "、" and not marks):
        return "item"
    if after in ".．" and then in {"", " "} and not marks:
        return "item" if word.islower() else "label"
    return ""


def _kind(marks: str, word: str) -> str:
    if word[0].islower():
        return "lower"
    if word[0].isdigit():
        return "number"
    if marks and marks[-1] in "([（［":
        return "bracket"
    first = not marks and word != "I" and begins_sentences(word)
    return "first" if first else "name"
