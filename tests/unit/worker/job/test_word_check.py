"""The verdict on words that score badly: against what other words would score."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.hearing import hearing, must_not_run
from worker.audio.waveform import Audio
from worker.job.word_check import judge_words
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan, WordTiming

SAID = "she carried a basket of apples to the park"
OTHER = "our train left late so we missed it all"


def verdict(text: str, score: float, model: object = None) -> tuple[str, ...]:
    """Judge `text`, whose words have this score, against a recording of SAID."""
    heard = "___" + "".join(f"{char}__" for char in SAID) + "___"
    samples = np.random.default_rng(0).normal(0, 0.1, len(heard) * 320).astype(np.float32)
    spoken = Audio(samples, 16_000)
    step = spoken.duration / len(text.split())
    words = [
        WordTiming(word, i * step, (i + 1) * step, score, 0, estimated=False)
        for i, word in enumerate(text.split())
    ]
    aligner = Aligner({"en": model or hearing(heard)})  # type: ignore[dict-item] # one that hears alike
    span = SentenceSpan(text, 0.0, spoken.duration)
    return judge_words(words, span, spoken, aligner).faults


def test_another_text_is_told_though_its_words_score_as_bad_speech_does() -> None:
    assert "other words would fit" in verdict(OTHER, 0.4)[0]


def test_the_right_text_that_scores_badly_is_good() -> None:
    assert verdict(SAID, 0.4) == ()


@pytest.mark.parametrize("score", [0.6, 0.1])
def test_what_is_plain_is_not_compared(score: float) -> None:
    deaf = hearing("___", listen=must_not_run)
    faults = verdict(SAID, score, deaf)
    assert (faults == ()) == (score > 0.5)
