"""The built-in voices: names that every worker knows, each for a designed or a saved voice.

The names are OpenAI's, so that its clients find the voices that they ask for; what they sound like
is this model's own. VOICE_NAMES changes the table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from worker.api.new_voice import parse_name
from worker.api.request import parse_request
from worker.api.turns import STYLE_FIELDS
from worker.bounded_json import check_json
from worker.errors import RequestError, SetupError
from worker.redaction import redact
from worker.speech.voice import Style

VARIABLE = "VOICE_NAMES"
NAMES_MAX = 256  # of the table: each designed voice is kept on the volume
DESIGN_TEXT = "Hello, it is good to hear from you. What would you like to know today?"
_FIELDS = (*STYLE_FIELDS, "gender", "seed")
_SEED_BYTES = 4


@dataclass(frozen=True)
class Design:
    """What a built-in voice is designed from: always the same, so that it is one stable voice."""

    style: Style
    seed: int


@dataclass(frozen=True)
class Alias:
    """A saved voice that a built-in name stands for."""

    saved: str


BuiltinNames = Mapping[str, Design | Alias]


def seed_of(name: str) -> int:
    """The seed of a name's voice where none is said: two names of one style differ."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:_SEED_BYTES], "big")


# Spread over what the model tells apart; nobody speaks at the ends of the scale of speed.
_STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "alloy": Style("female", "low", "moderate"),
        "ash": Style("male", "moderate", "high"),
        "ballad": Style("male", "high", "low"),
        "cedar": Style("male", "low", "moderate"),
        "coral": Style("female", "high", "moderate"),
        "echo": Style("male", "moderate", "moderate"),
        "fable": Style("male", "high", "moderate"),
        "marin": Style("female", "moderate", "low"),
        "nova": Style("female", "moderate", "high"),
        "onyx": Style("male", "very_low", "low"),
        "sage": Style("female", "low", "low"),
        "shimmer": Style("female", "very_high", "moderate"),
        "verse": Style("male", "low", "high"),
    }
)
BUILTIN: BuiltinNames = MappingProxyType(
    {name: Design(style, seed_of(name)) for name, style in _STYLES.items()}
)


def builtin_names(setting: str | None) -> BuiltinNames:
    """The table, as VOICE_NAMES changes it. Raises SetupError for a setting that is none."""
    if setting is None:
        return BUILTIN
    table = dict(BUILTIN)
    for name, meant in _object(setting).items():
        try:
            parse_name(name, "name")
            voice = _voice(name, meant)
        except RequestError as error:
            raise SetupError(f"{VARIABLE}: {redact(name)}: {error.message}") from None
        table.pop(name, None)
        if voice is not None:
            table[name] = voice
    table = {name: _resolved(name, voice, table) for name, voice in table.items()}
    if len(table) > NAMES_MAX:
        raise SetupError(f"{VARIABLE}: {len(table)} names are too many; at most {NAMES_MAX} may be")
    return MappingProxyType(table)


def _resolved(name: str, voice: Design | Alias, table: BuiltinNames) -> Design | Alias:
    """What a name stands for at last: it may name a built-in voice too. Raises SetupError."""
    if isinstance(voice, Design) or (target := table.get(voice.saved)) is None:
        return voice
    if isinstance(target, Alias):
        raise SetupError(
            f"{VARIABLE}: {name} stands for {voice.saved}, which only stands for another voice; "
            f"name {target.saved}"
        )
    return target


def _object(setting: str) -> dict[str, object]:
    try:
        checked = check_json(setting.encode(), objects=2 * NAMES_MAX, values=16 * NAMES_MAX)
        found = json.loads(checked, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        why = f" ({error})" if isinstance(error, _TwiceError) else ""
        raise SetupError(
            f"{VARIABLE}: is no JSON object{why}; it must be one such as "
            '{"alloy": "anna", "nova": {"speaker_gender": "female", "pitch": "high"}, "echo": null}'
        ) from None
    if not isinstance(found, dict):
        raise SetupError(f"{VARIABLE}: must be a JSON object: a name, and the voice it stands for")
    return found


class _TwiceError(ValueError):
    """A name stands twice in one object."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError("a name stands in it twice")
    return found


def _voice(name: str, meant: object) -> Design | Alias | None:
    """What a name stands for. Raises RequestError."""
    if meant is None:
        return None
    if isinstance(meant, str):
        saved = parse_name(meant, "the saved voice")
        return None if saved == name else Alias(saved)  # itself: the name is no built-in one
    if not isinstance(meant, dict):
        raise RequestError(
            f"{redact(meant)} is no voice; it must be the name of a saved voice, an object of "
            f"{', '.join(STYLE_FIELDS)} and seed, or null"
        )
    if unknown := [field for field in meant if field not in _FIELDS]:
        raise RequestError(
            f"{redact(unknown[0])} is not a field of a designed voice; those are "
            f"{', '.join(STYLE_FIELDS)} and seed"
        )
    request = parse_request({**meant, "text": DESIGN_TEXT})
    style = request.style or Style()
    return Design(style, seed_of(name) if request.seed is None else request.seed)
