"""The texts, names and places that a job may hold: how each is checked, and its rule in words.

A validator raises pydantic's error with a reason that reads on after the value: `'x' is empty`.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, AliasChoices, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from worker.redaction import redact
from worker.subtitles.style import MODES, SubtitleStyle

MAX_TEXT = 20_000  # characters, about half an hour of English
MAX_PROMPT_TEXT = 2_000  # more than anybody says in a reference's 60 seconds
MAX_URL = 2_048  # characters
LEAST_TEMPERATURE = 0.001  # as good as greedy
REASON = "worker_reason"  # the type of the validators' errors


@dataclass(frozen=True)
class Allowed:
    """What a field may hold, in words, where its type and limits do not say it."""

    words: str


def allowed(info: FieldInfo) -> str:
    """Say what a field may hold, for error messages and docs/API.md."""
    kind: Any = info.annotation
    marks = list(info.metadata)
    if get_origin(kind) in (Union, types.UnionType):  # X | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        marks += more
    for mark in marks:
        if isinstance(mark, Allowed):
            return mark.words
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "true or false"
    if kind is str and info.examples:
        return f"text such as {' or '.join(info.examples)}"
    words = ["an integer" if kind is int else "a number"]
    words += [f"from {mark.ge}" for mark in marks if isinstance(mark, Ge)]
    words += [f"above {mark.gt} and up" for mark in marks if isinstance(mark, Gt)]
    words += [f"to {mark.le}" for mark in marks if isinstance(mark, Le)]
    return " ".join(words)


def names(field: str, info: FieldInfo) -> tuple[str, ...]:
    """Give the names that a job may use for a field, its own one first."""
    choices = info.validation_alias
    return tuple(map(str, choices.choices)) if isinstance(choices, AliasChoices) else (field,)


def _reason(words: str) -> PydanticCustomError:
    return PydanticCustomError(REASON, "{words}", {"words": words})


def _speakable(limit: int) -> Callable[[str], str]:
    """Make a validator that gives a text of at most `limit` characters, stripped."""

    def check(text: str) -> str:
        text = text.strip()
        if not text:
            raise _reason("is empty")
        if len(text) > limit:
            raise _reason(f"is {len(text)} characters long")
        # C0, DEL and C1 are no text, and leaving one out could join two words. Those that are
        # white space (tab, line and page breaks, U+0085) may stay. Half a surrogate pair can
        # come out of JSON's \ud800 and cannot be written as UTF-8.
        for place, c in enumerate(text):
            if (c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff") and not c.isspace():
                raise _reason(f"has the character U+{ord(c):04X} at position {place}")
        # The tokenizer reads these as the model's own tokens, not as text.
        if token := re.search(r"<\|[^|<>\s]{1,64}\|>", text):
            raise _reason(f"has {redact(token[0])}, a token of the model, at {token.start()}")
        if not any(map(str.isalnum, text)):
            raise _reason("has nothing to say")
        return text

    return check


def _speakable_words(limit: int) -> Allowed:
    return Allowed(
        f"1 to {limit:,} characters with at least one letter or digit, without control characters"
    )


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or ".." in name:
        raise _reason("is not a name")
    return name


def _reference(place: str) -> str:
    """Check where a reference voice is; give it without "voices/", its scheme in lower case."""
    if len(place) > MAX_URL:
        raise _reason(f"is {len(place)} characters long")
    if not place.isprintable() or re.search(r"[\s\\]", place):
        raise _reason("holds a space, a backslash or a control character")
    scheme, colon, rest = place.partition(":")
    if not colon:
        return _path(place)
    scheme = scheme.lower()
    if scheme not in ("s3", "https") or not rest.startswith("//"):
        raise _reason("is neither an s3:// nor an https:// URL")
    place = f"{scheme}:{rest}"
    return _bucket_and_key(place) if scheme == "s3" else _https(place)


def _path(path: str) -> str:
    path = path.removeprefix("voices/")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", path) or ".." in path:
        raise _reason("is neither a URL nor a name below voices/")
    return path


def _bucket_and_key(url: str) -> str:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket):
        raise _reason("has no bucket's name after s3://")
    if {"", ".", ".."} & set(key.split("/")):
        raise _reason("has no file's key after the bucket's name")
    return url


def _https(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port, or an IPv6 address, that is none
        usable = False
    if not usable:
        raise _reason("has no usable host or port")
    if parts.username is not None:
        raise _reason("holds a user name; use a pre-signed URL")
    return url


def _look(given: object) -> SubtitleStyle:
    """Make a subtitle style of a mode's name or of an object of settings."""
    if isinstance(given, SubtitleStyle):
        return given
    if isinstance(given, str) and given in MODES:
        given = {"mode": given}
    if not isinstance(given, dict):
        raise _reason("is neither a mode nor an object of settings")
    try:
        return SubtitleStyle.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        setting = redact(fault["loc"][0]).strip("'")
        if fault["type"] == "extra_forbidden":
            raise _reason(f"has {setting}, which is no setting") from None
        raise _reason(f"has {setting} {redact(fault['input'])}: {fault['msg']}") from None


def _temperature(temperature: float) -> float:
    """Refuse what divides the logits into infinities in float32; 0 is its own, greedy case."""
    if 0 < temperature < LEAST_TEMPERATURE:
        raise _reason("is too near to 0")
    return temperature


Temperature = Annotated[
    float,
    AfterValidator(_temperature),
    Allowed(f"a number from 0 to 2, but none between 0 and {LEAST_TEMPERATURE}"),
]
Text = Annotated[str, AfterValidator(_speakable(MAX_TEXT)), _speakable_words(MAX_TEXT)]
Transcript = Annotated[
    str, AfterValidator(_speakable(MAX_PROMPT_TEXT)), _speakable_words(MAX_PROMPT_TEXT)
]
Name = Annotated[
    str,
    AfterValidator(_name),
    Allowed(
        "a name: 1 to 64 of the characters A-Z a-z 0-9 . _ -, a letter or digit first, never "
        "two dots in a row"
    ),
]
LookOfSubtitles = Annotated[
    SubtitleStyle,
    PlainValidator(_look, json_schema_input_type=SubtitleStyle),
    Allowed(f"{', '.join(MODES)} or an object of {', '.join(SubtitleStyle.model_fields)}"),
]
Reference = Annotated[
    str,
    AfterValidator(_reference),
    Allowed(
        "s3://BUCKET/KEY, an https:// URL or the name of a file below voices/ "
        f"(letters, digits and . _ - /), at most {MAX_URL} characters"
    ),
]
