"""Planned sentences -> sequences for the language model, in all the modes of the API."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from scripts.demo_voice import codes, data, styles, vocabulary
from scripts.demo_voice.codes import Ints
from scripts.demo_voice.data import Planned

SEMANTIC = vocabulary.IDS["<|start_semantic_token|>"]
LENGTHS = (64, 96, 128, 192, 256, 384, 576, 864, 1152)  # of the batches' rows
CONTROLLED = 0.2  # of the moderate sentences; all others are
JOINED, STRANGE_LABELS = 0.2, 0.15


@dataclass(frozen=True)
class Example:
    """Token ids [n], and for each whether the model has to give it."""

    ids: Ints
    given: np.ndarray  # bool [n]


class Examples:
    """Examples without end; which ones, is a function of the seed."""

    def __init__(self, folder: Path, seed: int, held_out: bool = False) -> None:
        self._rng = random.Random(seed)
        self._folder = folder
        self._held_out = held_out

    def __iter__(self) -> Iterator[Example]:
        """Shard after shard."""
        for turn in count():
            shards = sorted(self._folder.glob("*.npz"))
            shards = shards[:1] if self._held_out else shards[1:]
            shard = shards[(turn + self._rng.randrange(len(shards))) % len(shards)]
            sentences = list(data.plans(shard))
            self._rng.shuffle(sentences)
            while sentences:
                yield self._example(sentences)

    def _example(self, sentences: list[Planned]) -> Example:
        rng = self._rng
        gender = rng.choice(styles.GENDERS)
        first = sentences.pop()
        if first.speed != styles.MODERATE or rng.random() < CONTROLLED:
            return self._controlled(first, gender)
        parts = [first]
        while len(parts) < 3 and rng.random() < JOINED and sentences:
            if sentences[-1].speed != styles.MODERATE:
                break
            parts.append(sentences.pop())
        # Cloned voices speak at their own pitch and pace; a transcript's pitch goes on.
        levels = styles.PITCH_LEVELS[gender]
        hertz = levels[2] * rng.uniform(0.97, 1.03)
        if len(parts) > 1 and rng.random() < 0.5:
            _, hertz = styles.draw_pitch(rng, gender)
        text = rng.choice(("", " ", " ")).join(part.text for part in parts)
        units = np.concatenate([_units(part, hertz)[0] for part in parts])
        prompt = vocabulary.cloning_prompt(text, gender)
        return _example(prompt, [], [SEMANTIC], units)

    def _controlled(self, sentence: Planned, gender: str) -> Example:
        rng = self._rng
        pitch, hertz = styles.draw_pitch(rng, gender)
        units, mel = _units(sentence, hertz)
        speed = styles.speed_level(sentence.speed)
        strange = rng.random() < STRANGE_LABELS  # then only the values say how it is spoken
        if strange:
            pitch, speed = rng.randrange(5), rng.randrange(5)
        prompt = vocabulary.controlled_prompt(sentence.text, gender, pitch, speed)
        acoustic = vocabulary.values_ids(mel, sentence.speed)
        voice = vocabulary.voice_answer_ids(gender)
        if strange:
            return _example(prompt + acoustic, [], [*voice, SEMANTIC], units)
        return _example(prompt, acoustic, [*voice, SEMANTIC], units)


def _units(sentence: Planned, hertz: float) -> tuple[Ints, int]:
    """Codes [frames] at a mean frequency, and the pitch_value that came of it."""
    pitches = codes.quantise(data.scaled(sentence.f0, hertz))
    return codes.code(sentence.symbols, pitches), styles.pitch_value(pitches)


def _example(prompt: list[int], values: list[int], opening: list[int], units: Ints) -> Example:
    head = [*prompt, *values, *opening]
    ids = np.concatenate([head, units + vocabulary.FIRST_CODE, [vocabulary.END]])
    given = np.arange(len(ids)) >= len(prompt)
    return Example(ids.astype(np.int64), given)


class Batches:
    """Batches of about `tokens` tokens, each of rows of one length."""

    def __init__(self, examples: Iterator[Example], tokens: int) -> None:
        self._examples = examples
        self._tokens = tokens
        self._waiting: dict[int, list[Example]] = {length: [] for length in LENGTHS}

    def next(self, longest: int) -> tuple[Ints, Ints]:
        """Ids [rows, length] and targets, -1 where none: the id that follows."""
        while True:
            example = next(self._examples)
            length = next((n for n in LENGTHS if n >= len(example.ids)), None)
            if length is None or length > longest:
                continue
            waiting = self._waiting[length]
            waiting.append(example)
            if len(waiting) * length >= self._tokens:
                self._waiting[length] = []
                return _batch(waiting, length)


def _batch(examples: list[Example], length: int) -> tuple[Ints, Ints]:
    ids = np.full((len(examples), length), vocabulary.PAD, np.int64)
    targets = np.full((len(examples), length), -1, np.int64)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = example.ids
        targets[row, : n - 1] = np.where(example.given[1:], example.ids[1:], -1)
    return ids, targets
