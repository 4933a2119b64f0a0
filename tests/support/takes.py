"""Takes of sentences, made by hand."""

from __future__ import annotations

import numpy as np

from worker.audio.spool import Clip
from worker.job.retakes import Take
from worker.job.speech_check import Verdict
from worker.speech.engine import Utterance
from worker.text.line import Line


def take(text: str, wrong: float) -> Take:
    """A take with `wrong` seconds of faults."""
    samples = np.zeros(0, np.float32)
    utterance = Utterance(text, samples, (1, 2), 3, complete=True, codec_seconds=0.0)
    verdict = Verdict(("a fault",) if wrong else (), wrong)
    return Take(Line(utterance.text), utterance, Clip(0, 1600, 16_000), (), verdict)
