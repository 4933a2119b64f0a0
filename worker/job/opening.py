"""The opening of a job: what is known before its first word is spoken, whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.api.request import SpeechRequest
from worker.job.context import Job
from worker.job.limits import check_lines, check_timings
from worker.job.script import lines_of
from worker.job.seeds import random_seed
from worker.speech.batch.sampling import Sampling
from worker.text.line import Line
from worker.voices.choose import ChosenVoice, choose_voice


@dataclass(frozen=True)
class Opening:
    """The lines of a job, who speaks them and how the model's tokens are drawn."""

    lines: tuple[Line, ...]
    voice: ChosenVoice
    sampling: Sampling


def open_speech(request: SpeechRequest, job: Job) -> Opening:
    """Split the text and choose the voice. Raises the WorkerError that says what is wrong."""
    check_timings(request, job.components)
    sampling = sampling_of(request, random_seed(request))
    with job.watch("text"):
        lines = lines_of(request)
        check_lines(request, lines, job)
    with job.watch("voice"):
        voice = choose_voice(request, lines[0].said, sampling, job.voice_sources)
    for warning in voice.warnings:
        job.warn(warning)
    return Opening(lines, voice, sampling)


def sampling_of(request: SpeechRequest, seed: int) -> Sampling:
    """How the model's tokens are drawn for this job."""
    return Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)
