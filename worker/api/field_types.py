"""The texts, names and references that a job may hold: how each is checked, its rule in words.

A validator raises pydantic's error with a reason that reads on after the value: `'x' is empty`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import AfterValidator, AliasChoices, BaseModel, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from worker.allowed_values import Allowed, allowed
from worker.api.references import RULE, parse_reference
from worker.audio.tags import Tags
from worker.redaction import redact
from worker.subtitles.style import MODES, SubtitleStyle

MAX_TEXT = 20_000  # characters, about half an hour of English
MAX_PROMPT_TEXT = 2_000  # more than anybody says in a reference's 60 seconds
MAX_SPEAKER = 40  # characters of a speaker's name
MAX_PRONUNCIATIONS = 200
MAX_WRITTEN = 60  # characters of a word that is said otherwise
MAX_SAID = 100  # and of how it is said
LEAST_TEMPERATURE = 0.001  # as good as greedy
_Settings = TypeVar("_Settings", bound=BaseModel)
# What the tokenizer reads as the model's own tokens, not as text.
TOKEN = re.compile(r"<\|[^|<>\s]{1,64}\|>")
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
        if token := TOKEN.search(text):
            raise _reason(f"has {redact(token[0])}, a token of the model, at {token.start()}")
        if not any(map(str.isalnum, text)):
            raise _reason("has no letter or digit, so there is nothing to say")
        return text

    return check


def _speakable_words(limit: int) -> Allowed:
    return Allowed(
        f"1 to {limit:,} characters with at least one letter or digit, without control characters"
    )


def is_name(name: str) -> bool:
    """Whether this may be the name of a voice or a file."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)) and ".." not in name


def _name(name: str) -> str:
    if not is_name(name):
        raise _reason("is not a name")
    return name


def _speaker(name: str) -> str:
    """Check a speaker's name: what no format of subtitles takes for a mark of its own."""
    name = " ".join(name.split())
    letters = [c for c in name if unicodedata.category(c)[0] in "LMN"]
    others = set(name).difference(letters, " .'’-_()")
    if not letters or others or len(name) > MAX_SPEAKER or not name[0].isalnum():
        raise _reason("is no speaker's name")
    return name


def _reference(place: str) -> str:
    """Check where a reference is; give it without "voices/" and with its scheme in lower case."""
    try:
        return str(parse_reference(place))
    except ValueError as reason:
        raise _reason(str(reason)) from None


def _setting(model: type[BaseModel], name: str) -> FieldInfo:
    """Give the field of a model that has this name, which may be another than its own."""
    fields = model.model_fields
    return next(info for field, info in fields.items() if name in names(field, info))


def _settings(model: type[_Settings], given: object) -> _Settings:
    """Make an object of settings, as JSON gave it, the model."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        name = redact(fault["loc"][0]).strip("'")
        if fault["type"] == "extra_forbidden":
            raise _reason(f"has {name}, which is not a setting") from None
        may_be = allowed(_setting(model, str(fault["loc"][0])))
        raise _reason(f"has {name} {redact(fault['input'])}, which must be {may_be}") from None


def _pronunciations(given: object) -> dict[str, str]:
    """Check a map of words to how they are said; white space in a word counts as one space."""
    if not isinstance(given, dict):
        raise _reason("is no object")
    if len(given) > MAX_PRONUNCIATIONS:
        raise _reason(f"has {len(given)} words")
    check = _speakable(MAX_SAID)
    checked: dict[str, str] = {}
    for written, said in given.items():
        word = " ".join(written.split()) if isinstance(written, str) else ""
        if not 1 <= len(word) <= MAX_WRITTEN or not word.isprintable():
            raise _reason(f"has {redact(written)}, which is no word")
        if not isinstance(said, str):
            raise _reason(f"says {redact(written)} as {redact(said)}, which is no text")
        try:
            checked[word] = check(said)
        except PydanticCustomError as error:
            raise _reason(f"says {redact(written)} as {redact(said)}, which {error}") from None
    return checked


def _look(given: object) -> SubtitleStyle:
    """Make a subtitle style from a mode's name or from an object of settings."""
    if isinstance(given, SubtitleStyle):
        return given
    if isinstance(given, str) and given in MODES:
        given = {"mode": given}
    if not isinstance(given, dict):
        raise _reason("is neither a mode nor an object of settings")
    return _settings(SubtitleStyle, given)


def _tags(given: object) -> Tags:
    """Make tags from an object; one that is null is not given."""
    if isinstance(given, Tags):
        return given
    if not isinstance(given, dict):
        raise _reason("is not an object of tags")
    return _settings(Tags, {name: value for name, value in given.items() if value is not None})


def _temperature(temperature: float) -> float:
    """Refuse what divides the logits into infinities in float32; 0 is its own, greedy case."""
    if 0 < temperature < LEAST_TEMPERATURE:
        raise _reason("is too near to 0")
    return temperature


PitchValue = Annotated[int, Ge(0), Le(1000)]  # mel
SpeedValue = Annotated[int, Ge(0), Le(10)]
PitchShift = Annotated[float, Ge(-12), Le(12)]  # semitones
SpeedShift = Annotated[float, Ge(0.25), Le(4.0)]
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
SpeakerName = Annotated[
    str,
    AfterValidator(_speaker),
    Allowed(
        f"a name: 1 to {MAX_SPEAKER} letters, digits, spaces and . ' - _ ( ), a letter or digit "
        "first"
    ),
]
LookOfSubtitles = Annotated[
    SubtitleStyle,
    PlainValidator(_look, json_schema_input_type=SubtitleStyle),
    Allowed(f"{', '.join(MODES)} or an object of {', '.join(SubtitleStyle.model_fields)}"),
]
TagsOfFile = Annotated[
    Tags,
    PlainValidator(_tags, json_schema_input_type=Tags),
    Allowed(f"an object of {', '.join(Tags.model_fields)}"),
]
Pronunciations = Annotated[
    dict[str, str],
    PlainValidator(_pronunciations, json_schema_input_type=dict[str, str]),
    Allowed(
        f"an object of up to {MAX_PRONUNCIATIONS} words of 1 to {MAX_WRITTEN} characters, each "
        f"with how it is said in 1 to {MAX_SAID}, as a text may be"
    ),
]
Reference = Annotated[str, AfterValidator(_reference), Allowed(RULE)]
