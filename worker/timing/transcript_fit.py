"""Whether a transcript is that of a recording: by where a forced alignment puts its words.

The alignment finds a place for every word of any text, so three things are looked at:

- words that are squeezed in with a low score were not said: the transcript is longer;
- speech to which no word belongs: the transcript is shorter;
- the words' scores against those of the same words backwards: another text scores no better,
  however well or badly the model understands the speaker.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.text.pace import START_SECONDS, pace_of
from worker.text.spoken_forms import readings
from worker.text.words import language_of, split_words
from worker.timing.aligner import Aligner
from worker.timing.ctc_model import SAMPLE_RATE, CtcModel
from worker.timing.word_timing import SentenceSpan, WordTiming

# python -m bench.transcripts has how far right and wrong transcripts lie from these.
MOST_UNSAID = 0.27  # of the text: words that were not said
UNSAID_SECONDS = 1.0  # that they would take at least
MOST_UNCLAIMED = 0.2  # of the speech: without a word
UNCLAIMED_SECONDS = 0.9  # a word or two that were left out do no harm
LEAST_LEAD = 0.17  # of the mean score over that of the same words backwards
SQUEEZED_SCORE = 0.35
SQUEEZED = 0.5  # of the time that a word takes, as the speaker says the others
SURE_SCORE = 0.5  # of words that were said
SLOWEST, USUAL, FASTEST = 1.2, 0.9, 0.75  # of a word's time: without the pauses, which Pace has
STRETCHED, STRETCHED_SECONDS = 1.6, 0.3  # times that, and so much: more is not the word's
ORDERS = 4
FASTEST_LETTERS = 40  # a second, that nobody says
LEAST_WORDS = 3  # of which a mean says something
LEAST_MEASURED = 0.5  # of the text: else its model knows too few of its letters
AUDIBLE_DB = -30.0  # below the loudest window: a recording has a noise floor
WINDOW = SAMPLE_RATE // 100
SILENCE_KEPT = 20  # windows around the speech: the model's scores suffer from much of it
MARGIN_SECONDS = 0.06  # around a word, that belong to it

# What people write in a transcript and nobody says: [laughs], (coughs), <unk>, *sighs*.
_REMARK = re.compile(
    r"\[[^\[\]]{0,40}\]|\([^()]{0,40}\)|<[^<>]{0,40}>|\*[^*]{1,40}\*|【[^【】]{0,40}】"
)


@dataclass(frozen=True)
class Fit:
    """How a transcript fits a recording: `misfit` says in words why it does not; None if it does.

    `unsaid` is the share of the text that was not said, `unclaimed` the seconds of speech without
    a word, `lead` the mean score over that of the words backwards (1 of too few words).
    """

    misfit: str | None
    unsaid: float
    unclaimed: float
    lead: float


def fit_of(aligner: Aligner, samples: NDArray[np.float32], transcript: str) -> Fit | None:
    """Hold a transcript against samples [n] at 16 kHz of mono speech.

    None where it cannot be told: the aligner has no model of the transcript's language, or that
    knows too few of its letters; or there is no word in it.
    """
    text = " ".join(_REMARK.sub(" ", transcript).split())
    language = language_of(text)
    model = aligner.model_of(language)
    words = [word.text for word in split_words(text) if readings(word.text, language)]
    if model is None or not words:
        return None
    samples = _without_silence(samples)
    recording = _Recording(model, samples)
    found = recording.words(words)
    weights = _weights(found)
    measured = np.array([word.score is not None for word in found])
    if not measured.any() and len(text) > FASTEST_LETTERS * len(samples) / SAMPLE_RATE:
        return Fit("it is far too long for the recording", 1.0, 0.0, 0.0)
    if weights[measured].sum() < LEAST_MEASURED * weights.sum():
        return None
    speech, unclaimed = _unclaimed(samples, found, weights)
    unsaid = _unsaid(found, weights)
    lead = recording.lead(words, found) if len(words) >= LEAST_WORDS else 1.0
    if unsaid * weights.sum() < UNSAID_SECONDS:
        unsaid = 0.0
    return Fit(_misfit(unsaid, unclaimed, speech, lead), unsaid, unclaimed, lead)


def lead_of(aligner: Aligner, samples: NDArray[np.float32], text: str) -> float | None:
    """How much better the text's words score in samples [n] at 16 kHz than backwards.

    None where it cannot be told. It asks the aligner for as much as ORDERS + 1 sentences.
    """
    language = language_of(text)
    model = aligner.model_of(language)
    words = [word.text for word in split_words(text) if readings(word.text, language)]
    if model is None or len(words) < LEAST_WORDS:
        return None
    recording = _Recording(model, samples)
    return recording.lead(words, recording.words(words))


def _misfit(unsaid: float, unclaimed: float, speech: float, lead: float) -> str | None:
    """What is wrong, in words."""
    if unsaid > MOST_UNSAID:
        return f"{unsaid:.0%} of its words are not said in the recording"
    if unclaimed > max(UNCLAIMED_SECONDS, MOST_UNCLAIMED * speech):
        return f"{unclaimed:.1f} s of the recording's {speech:.1f} s of speech are not in it"
    if lead < LEAST_LEAD:
        return "the recording says something else, or cannot be understood"
    return None


class _Recording:
    """A recording that the model has listened to, once, for all texts."""

    def __init__(self, model: CtcModel, samples: NDArray[np.float32]) -> None:
        logits = model.logits(np.ascontiguousarray(samples, dtype=np.float32))
        heard = CtcModel(
            model.language, lambda _: logits, model.alphabet, normalise=False, device="cpu"
        )
        self._aligner = Aligner({model.language: heard})
        self._samples = samples
        self._joint = "" if model.language == "zh" else " "

    def words(self, words: Sequence[str]) -> list[WordTiming]:
        """The times of the words; some may come back as one, or as several."""
        text = self._joint.join(words)
        span = SentenceSpan(text, 0.0, len(self._samples) / SAMPLE_RATE)
        return self._aligner.align(self._samples, SAMPLE_RATE, [span])

    def lead(self, words: Sequence[str], found: Sequence[WordTiming]) -> float:
        """The words' mean score over that of the same words spelled backwards, in any order."""
        draws = random.Random(len(words))  # noqa: S311 - the same ones each time
        backwards = [word[::-1] for word in words]
        others = [_mean(self.words(draws.sample(backwards, len(words)))) for _ in range(ORDERS)]
        return _mean(found) - float(np.mean(others))


def _weights(words: Sequence[WordTiming]) -> NDArray[np.float64]:
    """The seconds that each word takes at an ordinary pace [words]."""
    return np.array([pace_of(word.word).least - START_SECONDS for word in words])


def _mean(words: Sequence[WordTiming]) -> float:
    """The mean score, longer words counting more."""
    scored = [word for word in words if word.score is not None]
    weights = _weights(scored)
    return float(weights @ [word.score for word in scored] / max(weights.sum(), 1e-9))


def _unsaid(words: Sequence[WordTiming], weights: NDArray[np.float64]) -> float:
    """The share of the text whose words are squeezed in, and score badly."""
    limit = SQUEEZED * _tempo(words, weights)
    squeezed = [
        word.score is not None
        and word.score < SQUEEZED_SCORE
        and word.end - word.start < limit * weight
        for word, weight in zip(words, weights, strict=True)
    ]
    return float(weights[squeezed].sum() / max(weights.sum(), 1e-9))


def _tempo(words: Sequence[WordTiming], weights: NDArray[np.float64]) -> float:
    """How long the speaker takes for a word, in ordinary times, by those that were surely said."""
    sure = [
        (word.end - word.start) / weight
        for word, weight in zip(words, weights, strict=True)
        if word.score is not None and word.score >= SURE_SCORE and weight > 0
    ]
    found = float(np.median(sure)) if len(sure) >= LEAST_WORDS else USUAL
    return min(max(found, FASTEST), SLOWEST)


def _audible(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each window of 10 ms can be heard."""
    windows = samples[: len(samples) // WINDOW * WINDOW].reshape(-1, WINDOW)
    rms = np.sqrt(np.square(windows, dtype=np.float64).mean(axis=1))
    return np.asarray(rms > rms.max(initial=0.0) * 10 ** (AUDIBLE_DB / 20))


def _without_silence(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples from a little before the first sound to a little after the last one."""
    heard = np.flatnonzero(_audible(samples))
    if not heard.size:
        return samples
    first, last = int(heard[0]) - SILENCE_KEPT, int(heard[-1]) + 1 + SILENCE_KEPT
    return samples[max(0, first * WINDOW) : last * WINDOW]


def _unclaimed(
    samples: NDArray[np.float32], words: Sequence[WordTiming], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """The seconds of speech, and those of them that belong to no word or stretch one."""
    audible = _audible(samples)
    claimed = np.zeros(len(audible), np.bool_)
    for word, weight in zip(words, weights, strict=True):
        end = min(word.end, word.start + STRETCHED_SECONDS + STRETCHED * weight)
        first, last = word.start - MARGIN_SECONDS, end + MARGIN_SECONDS
        claimed[max(0, round(100 * first)) : round(100 * last)] = True
    return float(audible.sum() / 100), float((audible & ~claimed).sum() / 100)
