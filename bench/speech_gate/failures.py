"""Failures as models have them, planted in the semantic tokens of good sentences.

The codec decodes them as it decodes all others, so that a failure sounds as it would.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.speech_gate.spoken import Sentence

SECOND = 50  # tokens


@dataclass(frozen=True)
class Material:
    """What failures are made of: another sentence, silence, and where the sentence is loud."""

    other: Sentence
    silence: tuple[int, ...]
    loudest: int  # the token at which it is


Plant = Callable[[random.Random, Sentence, Material], Sentence]


def nothing(draws: random.Random, one: Sentence, material: Material) -> Sentence:
    """A few tokens, or silence alone."""
    if draws.random() < 0.5:
        return _of(one, one.tokens[: draws.randint(1, 6)])
    return _of(one, _silent(draws.randint(5, 150), material))


def limit_reached(draws: random.Random, one: Sentence, _material: Material) -> Sentence:
    """The limit of tokens comes before the end."""
    kept = one.tokens[: round(draws.uniform(0.3, 0.95) * len(one.tokens))]
    return Sentence(one.text, kept, complete=False)


def ended_early(draws: random.Random, one: Sentence, _material: Material) -> Sentence:
    """The model ends when it has said a tenth to a half."""
    return _of(one, one.tokens[: round(draws.uniform(0.1, 0.5) * len(one.tokens))])


def rambling(_draws: random.Random, one: Sentence, material: Material) -> Sentence:
    """Another sentence follows, which nobody asked for."""
    return _of(one, one.tokens + material.other.tokens)


def silence_inside(draws: random.Random, one: Sentence, material: Material) -> Sentence:
    """Two to four seconds of silence between two words."""
    place = round(draws.uniform(0.3, 0.7) * len(one.tokens))
    gap = _silent(draws.randint(2 * SECOND + 5, 4 * SECOND), material)
    return _of(one, one.tokens[:place] + gap + one.tokens[place:])


def stuttering(draws: random.Random, one: Sentence, _material: Material) -> Sentence:
    """A sixth of a second to a second is said four to nine times."""
    length = draws.randint(8, SECOND)
    start = draws.randint(0, max(0, len(one.tokens) - length - 5))
    piece = one.tokens[start : start + length]
    times = draws.randint(3, 8)
    return _of(one, one.tokens[: start + length] + piece * times + one.tokens[start + length :])


def held_vowel(draws: random.Random, one: Sentence, material: Material) -> Sentence:
    """The loudest sound is held for 1.2 to 3 s; its pitch may take two tokens by turns."""
    place = min(material.loudest, len(one.tokens) - 2)
    sound = one.tokens[place : place + 2]
    held = sound * draws.randint(30, 75)
    return _of(one, one.tokens[:place] + held + one.tokens[place:])


def other_text(_draws: random.Random, one: Sentence, material: Material) -> Sentence:
    """Another sentence in its place: without an aligner only its length can tell."""
    return _of(one, material.other.tokens)


def _of(one: Sentence, tokens: Sequence[int]) -> Sentence:
    return Sentence(one.text, tuple(tokens), complete=True)


def _silent(count: int, material: Material) -> tuple[int, ...]:
    times = count // len(material.silence) + 1
    return (material.silence * times)[:count]


HELD = "held vowel"  # the one that needs to know where the sentence is loudest
KINDS: dict[str, Plant] = {
    "nothing said": nothing,
    "limit reached": limit_reached,
    "ended early": ended_early,
    "rambling after the end": rambling,
    "silence inside": silence_inside,
    "stuttering loop": stuttering,
    HELD: held_vowel,
    "other text": other_text,
}
