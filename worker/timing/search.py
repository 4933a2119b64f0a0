"""The search for words in one window of audio: WhisperX's alignment of their letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray

from worker.timing.ctc_model import FRAME_SECONDS, SAMPLE_RATE, CtcModel
from worker.timing.whisperx_align import LANGUAGES_WITHOUT_SPACES, load_align

_WILDCARD = "\ue000"  # in no alphabet; WhisperX lets it match any character
_VOWELS = re.compile("[aeiouy]+")


@dataclass(frozen=True)
class Hit:
    """The place of a word that was found, in seconds from the window's start.

    `score` is between 0 and 1; `guessed` where the model's alphabet lacks most of the word, so
    that only its place among the others is known.
    """

    start: float
    end: float
    score: float
    guessed: bool


def search(
    model: CtcModel, window: NDArray[np.float32], words: Sequence[Sequence[str]]
) -> list[Hit | None]:
    """Find words, each given by its possible readings, in samples [n] that hold them in order.

    Of several readings the best scored one is taken. A word without readings gets None; so does
    every word where the window is too short to hold them all.
    """
    if not any(words) or not window.size:
        return [None] * len(words)
    logits = model.logits(window)
    best: list[Hit | None] = [None] * len(words)
    chosen = [readings[0] if readings else "" for readings in words]
    tried: list[list[str]] = []
    for attempt in range(max(map(len, words))):
        tried.append([r[min(attempt, len(r) - 1)] if r else "" for r in words])
        for i, hit in enumerate(_align(model, logits, tried[-1])):
            old = best[i]
            if hit and (old is None or hit.score > old.score):
                best[i], chosen[i] = hit, tried[-1][i]
    if len(tried) == 1:
        return best
    return _align(model, logits, chosen)  # together: the best of each, in one path


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
    for word in units:
        places = [place for _, place in zip(word, found, strict=False)]
        hits.append(_joined(places, "".join(word)) if places else None)
    return hits


def _joined(places: Sequence[dict[str, float]], letters: str) -> Hit:
    """One hit for the places of a word's parts, as WhisperX gives them."""
    return Hit(
        float(places[0]["start"]) + FRAME_SECONDS / 2,
        float(places[-1]["end"]) + FRAME_SECONDS / 2,
        float(np.mean([place["score"] for place in places])),
        letters.count(_WILDCARD) * 2 > len(letters),
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
