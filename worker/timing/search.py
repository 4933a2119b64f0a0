"""The search for words in one window of audio: WhisperX's alignment of their letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray

from worker.text.spoken.passage import Reading
from worker.text.spoken.word_groups import WordGroup
from worker.timing.ctc_model import FRAME_SECONDS, SAMPLE_RATE, CtcModel
from worker.timing.whisperx_align import LANGUAGES_WITHOUT_SPACES, load_align

_WILDCARD = "\ue000"  # in no alphabet; WhisperX lets it match any character
_VOWELS = re.compile("[aeiouy]+")


@dataclass(frozen=True)
class Hit:
    """The place of a word that was found, in seconds from the window's start.

    `score` is between 0 and 1; `guessed` where the model's alphabet lacks most of the word, so
    that only its place among the others is known. `said` is the reading that was looked for.
    """

    start: float
    end: float
    score: float
    guessed: bool
    said: str = field(compare=False)


def search(
    model: CtcModel, window: NDArray[np.float32], groups: Sequence[WordGroup]
) -> list[Hit | None]:
    """Find words, in groups that are read together, in samples [n] that hold them in order.

    Gives a hit for each word. Of several readings of a group the best scored one is taken. A word
    for which nothing is said gets None; so does every word where the window is too short for all.
    """
    most = max((len(group.readings) for group in groups), default=0)
    if not most or not window.size:
        return [None] * sum(group.count for group in groups)
    logits = model.logits(window)
    tried: list[list[Reading]] = []
    hits: list[list[Hit | None]] = []
    best: list[float | None] = [None] * len(groups)
    chosen = [_reading(group, 0) for group in groups]
    for attempt in range(most):
        tried.append([_reading(group, attempt) for group in groups])
        hits.append(_align(model, logits, _flat(tried[-1])))
        places = iter(hits[-1])
        for i, reading in enumerate(tried[-1]):
            score, old = _score([next(places) for _ in reading]), best[i]
            if score is not None and (old is None or score > old):
                best[i], chosen[i] = score, reading
    if len(tried) == 1:
        return hits[0]
    return _align(model, logits, _flat(chosen))  # together: the best of each, in one path


def _reading(group: WordGroup, attempt: int) -> Reading:
    """The reading of this attempt, or the last one; nothing for each word where there is none."""
    if not group.readings:
        return ("",) * group.count
    return group.readings[min(attempt, len(group.readings) - 1)]


def _flat(readings: Sequence[Reading]) -> list[str]:
    return [part for reading in readings for part in reading]


def _score(hits: Sequence[Hit | None]) -> float | None:
    """The score of a group: the mean of its words', by their letters; None without any."""
    found = [(hit.score, len(hit.said)) for hit in hits if hit]
    if not found:
        return None
    return sum(score * letters for score, letters in found) / sum(letters for _, letters in found)


def _align(model: CtcModel, logits: torch.Tensor, readings: Sequence[str]) -> list[Hit | None]:
    """Align one reading of each word ("" for none) with logits [1, frames, characters]."""
    spaced = model.language not in LANGUAGES_WITHOUT_SPACES
    units = [_units(model, reading, spaced=spaced) for reading in readings]
    text = (" " if spaced else "").join(unit for word in units for unit in word)
    if not text or len(text) >= logits.shape[1]:
        return [None] * len(readings)
    # The window's samples serve WhisperX for their number only: the logits are at hand. It spreads
    # the frames over all of the window, which is longer than they are, so that words are the later
    # the further behind they are; so the window is said to end where the last frame begins. With
    # half a frame added to all times, the first frame stands for its middle and the last one for
    # half a frame before itself, which on words at known places errs less (median 6 ms) than the
    # middle of each frame (9 ms).
    seconds = (logits.shape[1] - 1) * FRAME_SECONDS
    result = load_align()(
        [{"text": text, "start": 0.0, "end": seconds}],
        lambda _: SimpleNamespace(logits=logits),
        {"language": model.language, "dictionary": model.alphabet, "type": "huggingface"},
        torch.zeros(round(seconds * SAMPLE_RATE)),
        "cpu",
    )
    found = iter(result["word_segments"])
    hits: list[Hit | None] = []
    for word, reading in zip(units, readings, strict=True):
        places = [place for _, place in zip(word, found, strict=False)]
        hits.append(_joined(places, "".join(word), reading) if places else None)
    return hits


def _joined(places: Sequence[dict[str, float]], letters: str, said: str) -> Hit:
    """One hit for the places of a word's parts, as WhisperX gives them."""
    return Hit(
        float(places[0]["start"]) + FRAME_SECONDS / 2,
        float(places[-1]["end"]) + FRAME_SECONDS / 2,
        float(np.mean([place["score"] for place in places])),
        letters.count(_WILDCARD) * 2 > len(letters),
        said,
    )


def _units(model: CtcModel, reading: str, *, spaced: bool) -> list[str]:
    """Cut the reading into what WhisperX counts as words: Latin words, or single characters."""
    if spaced:
        return ["".join(_letter(model, char) for char in part) for part in reading.split()]
    letters = [_letter(model, char) for char in reading.replace(" ", "")]
    if reading.isascii() and _WILDCARD in letters:
        # A Latin word in Chinese: a character stands for a syllable, so as many as it has vowels.
        return [_WILDCARD] * max(1, len(_VOWELS.findall(reading.lower())))
    return letters


def _letter(model: CtcModel, char: str) -> str:
    """Put the character into the alphabet, without its accent at need, else the wildcard."""
    for candidate in (char.lower(), unicodedata.normalize("NFKD", char.lower())[:1]):
        if model.knows(candidate):
            return candidate
    return _WILDCARD
