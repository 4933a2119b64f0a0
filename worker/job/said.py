"""Whether anything was said: what a job may not call a success, and what it must tell."""

from __future__ import annotations

from collections.abc import Sequence

from worker.api.request import SpeechRequest
from worker.errors import SynthesisError
from worker.job.context import Job
from worker.job.retakes import Take
from worker.speech.voice import Voice
from worker.text.pace import pace_of

HARDLY = 0.2  # of the least time that a text takes: less of it is as good as nothing


def check_said(request: SpeechRequest, voice: Voice, takes: Sequence[Take], job: Job) -> None:
    """Warn of sentences of which hardly anything was said.

    Raises SynthesisError where that is so of all of them together.
    """
    said, least = _seconds(request, takes), [pace_of(take.line.said).least for take in takes]
    if sum(said) < HARDLY * sum(least):
        raise SynthesisError(
            f"the model said hardly anything of the text: {sum(said):.1f} s, which takes "
            f"{sum(least):.1f} s or more; {remedy(voice)}"
        )
    warn_unsaid(request, voice, takes, job)


def warn_unsaid(request: SpeechRequest, voice: Voice, takes: Sequence[Take], job: Job) -> None:
    """Warn of sentences of which hardly anything was said."""
    for number, (take, said) in enumerate(zip(takes, _seconds(request, takes), strict=True), 1):
        if said < HARDLY * pace_of(take.line.said).least:
            job.warn(f"sentence {number}: hardly anything of it was said; {remedy(voice)}")


def remedy(voice: Voice) -> str:
    """What may help."""
    if voice.transcript is None:
        return "try another seed, or a temperature nearer to 0.8"
    return (
        "it continues from the transcript (prompt_text), which may be another text than the "
        "recording's, or too long: try task_token 'cross_lingual', which does without it, or a "
        "shorter recording with its transcript, or another seed"
    )


def _seconds(request: SpeechRequest, takes: Sequence[Take]) -> list[float]:
    """Of each take, as the model spoke it."""
    return [take.clip.duration * request.speed_shift for take in takes]
