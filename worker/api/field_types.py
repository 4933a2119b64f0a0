"""The texts, names and references that a job may hold: how each is checked, its rule in words.

A validator raises pydantic's error with a reason that reads on after the value: `'x' is empty`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from worker.allowed_values import Allowed, allowed
from worker.api.references import RULE, parse_reference
from worker.redaction import redact
from worker.subtitles.style import MODES, SubtitleStyle

MAX_TEXT = 20_000  # characters, about half an hour of English
MAX_PROMPT_TEXT = 2_000  # more than anybody says in a reference's 60 seconds
LEAST_TEMPERATURE = 0.001  # as good as greedy
REASON = "worker_reason"  # the type of the errors that these validators raise


def names(field: str, info: FieldInfo) -> tuple[str, ...]:
    """Give the names that a job may use for a field, its own one first."""
    choices = info.validation_alias
    return tuple(map(str, choices.choices)) if isinstance(choices, AliasChoices) else (field,)


def _reason(words: str) -> PydanticCustomError:
    return PydanticCustomError(REASON, "{words}", {"words": words})


def _speakable(limit: int) -> Callable[[str], str]:
    """Make a validator that strips a text and refuses more than `limit` characters."""

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
            raise _reason("has no letter or digit, so there is nothing to say")
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
    """Check where a reference is; give it without "voices/" and with its scheme in lower case."""
    try:
        return str(parse_reference(place))
    except ValueError as reason:
        raise _reason(str(reason)) from None


def style_field(name: str) -> FieldInfo:
    """Give the field of SubtitleStyle that has this name, which may be another than its own."""
    fields = SubtitleStyle.model_fields
    return next(info for field, info in fields.items() if name in names(field, info))


def _look(given: object) -> SubtitleStyle:
    """Make a subtitle style from a mode's name or from an object of settings."""
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
            raise _reason(f"has {setting}, which is not a setting") from None
        may_be = allowed(style_field(str(fault["loc"][0])))
        raise _reason(f"has {setting} {redact(fault['input'])}, which must be {may_be}") from None


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
TranscriptMismatch = Literal["drop", "refuse", "ignore"]
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
Reference = Annotated[str, AfterValidator(_reference), Allowed(RULE)]
