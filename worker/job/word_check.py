"""Judges a sentence by its words, and where they score badly against other words."""

from __future__ import annotations

from collections.abc import Sequence

from worker.audio.waveform import Audio
from worker.job.speech_check import Verdict, judge
from worker.text.line import Line
from worker.timing.aligner import Aligner
from worker.timing.transcript_fit import lead_of
from worker.timing.word_timing import SentenceSpan, WordTiming

# Nearly all good sentences have more; only below is it worth the aligner's time to compare.
SURE_SCORE = 0.55
# Of the mean score over that of the words backwards: right ones have 0.2, another text 0.
LEAST_LEAD = 0.15


def judge_words(
    words: Sequence[WordTiming], span: SentenceSpan, spoken: Audio, aligner: Aligner
) -> Verdict:
    """The verdict on a sentence, `spoken` at 16 kHz, whose words are all of it, in order."""
    verdict = judge(words, span)
    scores = [word.score for word in words if word.score is not None]
    if not verdict.good or not scores or sum(scores) / len(scores) >= SURE_SCORE:
        return verdict
    lead = lead_of(aligner, spoken.samples, Line(span.text, span.replacements).said)
    if lead is None or lead >= LEAST_LEAD:
        return verdict
    fault = f"other words would fit the sound as well (mean score {sum(scores) / len(scores):.2f})"
    return Verdict((fault,), (span.end - span.start) * (1 - max(lead, 0.0)))
