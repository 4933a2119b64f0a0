"""Spells a text in the characters that a tokenizer has.

The published tokenizer has every character, so its texts stay as they are. One with a small
alphabet, such as the embedded model's, would drop the others without a word. Here each is

    replaced   by its plain form: a curly quote by a straight one, an accented letter by its base
    left out   where it has no sound of its own
    refused    where it is a letter or a digit that cannot be spelled
"""

from __future__ import annotations

import re
import unicodedata

from tokenizers import Tokenizer

from worker.errors import RequestError

# Punctuation whose plain form is another character, or none.
_PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": "", "\u201d": "", '"': "",
    "\u2013": "-", "\u2014": ",", "\u2026": "...", "\u3002": ".", "\uff0c": ",", "\u3001": ",",
})  # fmt: skip
NAMED = 10  # characters that a refusal names


def spell(text: str, tokenizer: Tokenizer, field: str = "text") -> str:
    """The text in characters that the tokenizer has; `field` is the job's that it came in.

    Raises RequestError, naming them, for letters and digits that cannot be spelled.
    """
    plain = {c: _plain_form(c) for c in set(text) if not _has(tokenizer, c)}
    if not plain:
        return text
    spelled = {c: form for c, form in plain.items() if all(_has(tokenizer, p) for p in form)}
    refused = sorted(c for c in plain if c not in spelled and unicodedata.category(c)[0] in "LN")
    if refused:
        raise RequestError(
            f"{field}: this model has no token for {' '.join(map(repr, refused[:NAMED]))}; "
            "write these in characters that it has (numbers in words, for example)",
            field=field,
        )
    whole = "".join(spelled.get(c, " ") if c in plain else c for c in text)
    return re.sub(r" +(?=[,.;:?!])", "", " ".join(whole.split()))


def _plain_form(character: str) -> str:
    """A character's plainest form: compatibility decomposed, without combining marks."""
    forms = unicodedata.normalize("NFKD", character.translate(_PLAIN))
    return "".join(c for c in forms if not unicodedata.combining(c))


def _has(tokenizer: Tokenizer, character: str) -> bool:
    """Whether the tokenizer gives this character back."""
    ids = tokenizer.encode(character, add_special_tokens=False).ids
    normal = tokenizer.normalizer
    wanted = normal.normalize_str(character) if normal else character
    return bool(tokenizer.decode(ids, skip_special_tokens=False) == wanted)
