"""The opening of a job: what is known before its first word is spoken, whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.api.request import SpeechRequest
from worker.job.context import Job
from worker.job.limits import check_sentences, check_timings
from worker.job.seeds import random_seed
from worker.speech.batch.sampling import Sampling
from worker.text.sentences import split
from worker.voices.choose import ChosenVoice, choose_voice


@dataclass(frozen=True)
class Opening:
    """The sentences of a job, who speaks them and how the model's tokens are drawn."""

    sentences: tuple[str, ...]
    voice: ChosenVoice
    sampling: Sampling


def open_speech(request: SpeechRequest, job: Job) -> Opening:
    """Split the text and choose the voice. Raises the WorkerError that says what is wrong."""
    check_timings(request, job.components)
    sampling = sampling_of(request, random_seed(request))
    with job.watch("text"):
        sentences = split(request.text)
        check_sentences(request, sentences, job)
    with job.watch("voice"):
        voice = choose_voice(request, sentences[0], sampling, job.voice_sources)
    return Opening(tuple(sentences), voice, sampling)


def sampling_of(request: SpeechRequest, seed: int) -> Sampling:
    """How the model's tokens are drawn for this job."""
    return Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)
