"""Where the demo voice's words are, by its tokens: each is a phoneme and a pitch for 20 ms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from worker.speech.engine import Utterance
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan

TOKEN_SECONDS = 0.02


def token_times(codes: Sequence[int], silent: Collection[int]) -> list[tuple[float, float]]:
    """Start and end of each run of codes that speak, in seconds; `silent` are those that do not."""
    times: list[tuple[float, float]] = []
    at = 0
    for pause, run in groupby(codes, key=silent.__contains__):
        length = len(list(run))
        if not pause:
            times.append((at * TOKEN_SECONDS, (at + length) * TOKEN_SECONDS))
        at += length
    return times


def edge_errors(
    aligner: Aligner, spoken: Iterable[Utterance], rate: int, silent: Collection[int]
) -> list[npt.NDArray[np.float64]]:
    """For each sentence the milliseconds by which words begin and end too late, in order.

    Sentences with words that follow each other without a pause have no truth and are left out; and
    the last end is, since its token goes on into silence, which is no part of the word.
    """
    errors = []
    for one in spoken:
        truth = token_times(one.semantic_tokens, silent)
        span = SentenceSpan(one.text, 0.0, one.samples.size / rate)
        timed = aligner.align(one.samples, rate, [span])
        if len(truth) == len(timed):
            found = np.array([(word.start, word.end) for word in timed])
            errors.append((found - np.array(truth)).ravel()[:-1] * 1000)
    return errors
