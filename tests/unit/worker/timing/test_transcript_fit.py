"""Whether a transcript is a recording's, by a model that hears what is written down for it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.hearing import CHINESE, ENGLISH, hearing
from worker.timing.aligner import Aligner
from worker.timing.transcript_fit import Fit, fit_of

SAID = "she carried twelve baskets of apples and nobody else was in the park"
TEXT = "She carried 12 baskets of apples, and nobody else was in the park."
FRAME = 320


def fit(transcript: str, said: str = SAID, language: str = "en") -> Fit | None:
    """Hold the transcript against a recording in which each character takes three frames."""
    letters = ENGLISH if language == "en" else CHINESE
    heard = "___" + "".join(f"{char}__" for char in said) + "___"
    samples = np.random.default_rng(0).normal(0, 0.1, len(heard) * FRAME).astype(np.float32)
    return fit_of(Aligner({language: hearing(heard, language, letters)}), samples, transcript)


def misfit(transcript: str, said: str = SAID, language: str = "en") -> str | None:
    found = fit(transcript, said, language)
    assert found is not None
    return found.misfit


@pytest.mark.parametrize(
    "transcript",
    [
        TEXT,
        SAID.upper(),
        TEXT.replace("12", "twelve"),
        f"[laughs] {TEXT} (coughs) <unk> *sighs*",
        TEXT.replace("apples, ", ""),
        TEXT.replace("baskets", "boxes"),
        TEXT.replace("nobody", "nearly nobody"),
        "— " + TEXT + " 🙂",
    ],
)
def test_its_words_fit_however_they_are_written_and_with_a_slip(transcript: str) -> None:
    assert misfit(transcript) is None


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        (f"{TEXT} We sat down on a bench until it was late in the evening.", "are not said"),
        (f"Once upon a time in a small town by the sea, {TEXT}", "are not said"),
        (f"{TEXT} " * 12, "far too long"),
        ("She carried 12 baskets.", "of speech are not in it"),
        ("Nobody else was in the park.", "of speech are not in it"),
        ("Our train left at nine, so we missed most of the meeting with him.", ""),
        ("Der Gärtner ging langsam den schmalen Weg entlang und sang ein Lied.", ""),
    ],
)
def test_another_text_does_not(transcript: str, reason: str) -> None:
    assert reason in str(misfit(transcript))
    assert misfit(transcript) is not None


def test_chinese_is_held_against_its_own_model() -> None:
    assert misfit("今天去看书。", "今天去看书", "zh") is None
    assert misfit("一二三看一二三看。", "今天去看书", "zh") is not None


@pytest.mark.parametrize(
    ("transcript", "language"),
    [
        ("今天去看书。", "en"),
        (TEXT, "zh"),
        ("[laughs]", "en"),
        ("...", "en"),
        ("Привет, мир!", "en"),
    ],
)
def test_what_no_model_knows_cannot_be_told(transcript: str, language: str) -> None:
    assert fit(transcript, SAID if language == "en" else "今天去看书", language) is None


def test_silence_around_the_speech_is_not_listened_to_and_does_no_harm() -> None:
    heard = "_" * 10 + "".join(f"{char}__" for char in SAID) + "_" * 10
    speech = np.random.default_rng(0).normal(0, 0.1, (len(heard) - 20) * FRAME)
    samples = np.pad(speech, 32_000).astype(np.float32)
    lengths: list[int] = []
    model = hearing(heard, listen=lambda given: lengths.append(given.shape[1]))
    found = fit_of(Aligner({"en": model}), samples, TEXT)
    assert found is not None
    assert found.misfit is None
    assert found.unclaimed < 0.3
    assert lengths == [len(heard) * FRAME]  # once, however many texts it is held against
