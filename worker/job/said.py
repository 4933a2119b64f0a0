"""Whether anything was said: what a job may not call a success, and what it must tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.errors import SynthesisError
from worker.job.context import Job
from worker.job.retakes import Take
from worker.speech.voice import Voice
from worker.text.pace import pace_of

HARDLY = 0.2  # of the least time that a text takes: less of it is as good as nothing

Voices = Mapping[str | None, Voice]  # by the speaker's name


def check_said(voices: Voices, takes: Sequence[Take], job: Job) -> None:
    """Warn of sentences of which hardly anything was said.

    Raises SynthesisError where that is so of all of them together.
    """
    said = sum(map(_seconds, takes))
    least = sum(pace_of(take.line.said).least for take in takes)
    if said < HARDLY * least:
        raise SynthesisError(
            f"the model said hardly anything of the text: {said:.1f} s, which takes {least:.1f} s "
            f"or more; {remedy(voices[takes[0].line.speaker])}"
        )
    warn_unsaid(voices, takes, job)


def warn_unsaid(voices: Voices, takes: Sequence[Take], job: Job) -> None:
    """Warn of sentences of which hardly anything was said."""
    for number, take in enumerate(takes, 1):
        if _seconds(take) < HARDLY * pace_of(take.line.said).least:
            help_ = remedy(voices[take.line.speaker])
            job.warn(f"sentence {number}: hardly anything of it was said; {help_}")


def remedy(voice: Voice) -> str:
    """What may help."""
    if voice.transcript is None:
        return "try another seed, or a temperature nearer to 0.8"
    return (
        "it continues from the transcript (prompt_text), which may be another text than the "
        "recording's, or too long: try task_token 'cross_lingual', which does without it, or a "
        "shorter recording with its transcript, or another seed"
    )


def _seconds(take: Take) -> float:
    """How long it is, as the model spoke it."""
    return take.clip.duration * take.line.tempo
