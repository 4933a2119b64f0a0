"""A text in characters that a tokenizer has."""

from __future__ import annotations

import unicodedata

_PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": "", "\u201d": "", '"': "",
    "\u2013": "-", "\u2014": ",", "\u2026": "...", "\u3002": ".", "\uff0c": ",", "\u3001": ",",
})  # fmt: skip


def plain_form(character: str) -> str:
    """A character's plainest form: compatibility decomposed, without combining marks."""
    forms = unicodedata.normalize("NFKD", character.translate(_PLAIN))
    return "".join(c for c in forms if not unicodedata.combining(c))
