"""Tags in a text: `[pause:1.5s]`, `[voice:NAME]`. They part it, and are never spoken.

A tag is the word pause or voice, a colon and a value in square brackets; capital letters, spaces
around each part and the full-width forms of brackets and colon change nothing. Any other bracket is
text. What begins as a tag and is none, for its value or its end, is an error and no text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

import regex

from worker.redaction import redact
from worker.text.paragraphs import WORD

MAX_PAUSE = 10  # seconds, of one tag
OWN_VOICE = "default"  # in a tag: the voice that the text has without any

_OPENING = regex.compile(
    r"[\[［【]\s*+(?:(?P<name>pause|voice)\s*+[:：]|/\s*+(?:pause|voice)\s*+[\]］】])", regex.I
)
_VALUE = regex.compile(r"(?P<value>[^\[\]［］【】]*+)[\]］】]")
_PAUSE = regex.compile(
    r"(?P<number>[0-9]{1,5}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*(?P<unit>ms|s)", regex.I
)
# Directly behind a tag, this belongs to what stands before it: "Wait[pause:1s], what?"
_ENDS_TEXT = regex.compile(
    r"(?:[.,;:!?…。，、；：！？｡\p{Pe}\p{Pf}]|[\"'](?=[\s\p{Po}]|$))++(?!\p{Nd})"
)


class TagError(ValueError):
    """What is wrong with a tag; it reads on after the name of the text's field."""


@dataclass(frozen=True)
class VoiceTag:
    """A tag that names a voice, and the place in the text at which it stands."""

    name: str
    place: int

    @property
    def shown(self) -> str:
        """The tag as a message shows it."""
        return f"{redact(f'[voice:{self.name}]')} at position {self.place}"


@dataclass(frozen=True)
class Stretch:
    """A part of a text between tags: it has a word, and is said by one voice without a pause."""

    text: str
    voice: VoiceTag | None = None  # None: the text's own
    pause: float | None = None  # seconds of silence before it; None where no tag says


@dataclass(frozen=True)
class MarkedText:
    """A text whose tags have been read."""

    stretches: tuple[Stretch, ...]
    pause: float | None = None  # seconds of silence after it; None where no tag says
    tags: tuple[VoiceTag, ...] = ()  # all that name a voice, also one that nothing is said with


def read_tags(text: str) -> MarkedText:
    """Read the tags of a text. Raises TagError for the first one that is wrong.

    Put together, the stretches are the text without its tags.
    """
    reader = _Reader()
    for part in _parts(text):
        if isinstance(part, str):
            reader.add(part)
        elif isinstance(part, VoiceTag):
            reader.turn_to(part)
        else:
            reader.pause = part if reader.pause is None else reader.pause + part
    return reader.end()


def holds_tag(text: str) -> bool:
    """Whether something in the text begins as a tag does."""
    return _OPENING.search(text) is not None


@dataclass
class _Reader:
    """Puts the parts of a text together."""

    stretches: list[Stretch] = field(default_factory=list)
    before: str = ""  # text without a word that nothing has come before
    voice: VoiceTag | None = None
    tags: list[VoiceTag] = field(default_factory=list)
    pause: Decimal | None = None  # since the last stretch

    def add(self, text: str) -> None:
        """Take the text up to the next tag; what has no word goes to a neighbour."""
        end = _ENDS_TEXT.match(text)
        if self.stretches and end is not None:
            last = self.stretches[-1]
            self.stretches[-1] = replace(last, text=last.text.rstrip() + end[0])
            text = text[end.end() :]
        if WORD.search(text):
            pause = None if self.pause is None else float(self.pause)
            self.stretches.append(Stretch(self.before + text, self.voice, pause))
            self.before, self.pause = "", None
        elif self.stretches:
            last = self.stretches[-1]
            self.stretches[-1] = replace(last, text=last.text + text)
        else:
            self.before += text

    def turn_to(self, tag: VoiceTag) -> None:
        """Have what follows said with this voice."""
        self.voice = None if tag.name == OWN_VOICE else tag
        if self.voice is not None:
            self.tags.append(tag)

    def end(self) -> MarkedText:
        """Give the whole."""
        if not self.stretches:
            raise TagError("has no letter or digit beside its tags, so there is nothing to say")
        for stretch in self.stretches:
            if (found := _OPENING.search(stretch.text)) is not None:
                shown = redact(stretch.text[found.start() :])
                raise TagError(f"would have a tag where one was taken out: {shown}")
        pause = None if self.pause is None else float(self.pause)
        return MarkedText(tuple(self.stretches), pause, tuple(self.tags))


def _parts(text: str) -> Iterator[str | VoiceTag | Decimal]:
    """The text between the tags, and the tags: a voice, or the seconds of a pause."""
    done = 0
    while (opening := _OPENING.search(text, done)) is not None:
        yield text[done : opening.start()]
        yield (tag := _tag(text, opening))[0]
        done = tag[1]
    yield text[done:]


def _tag(text: str, opening: regex.Match[str]) -> tuple[VoiceTag | Decimal, int]:
    """The tag that begins here, and where it ends."""
    place = opening.start()
    if opening["name"] is None:
        raise TagError(
            f"has {redact(opening[0])} at position {place}, and no tag is closed by another; "
            f"[voice:{OWN_VOICE}] gives the text's own voice back"
        )
    found = _VALUE.match(text, opening.end())
    if found is None:
        shown = redact(text[place : place + 40])
        raise TagError(f"has a tag at position {place} that is not closed: {shown}")
    value = str(found["value"]).strip()
    shown = f"{redact(text[place : found.end()])} at position {place}"
    if opening["name"].lower() == "pause":
        return _seconds(value, shown), found.end()
    if not value:
        raise TagError(f"has {shown}, which names no voice")
    return VoiceTag(value, place), found.end()


def _seconds(value: str, shown: str) -> Decimal:
    found = _PAUSE.fullmatch(value)
    if found is not None:
        number = Decimal(found["number"])
        seconds = number / 1000 if found["unit"].lower() == "ms" else number
        if seconds <= MAX_PAUSE:
            return seconds
    raise TagError(
        f"has {shown}, which is no pause; it must be 0 to {MAX_PAUSE} seconds, such as "
        "[pause:1.5s] or [pause:500ms]"
    )
