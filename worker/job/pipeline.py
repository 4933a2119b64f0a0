"""The stages of a job, in order. The order is known here only; each stage has a file of its own.

text -> voice -> speech and timing, sentence by sentence -> audio -> subtitles -> storage -> answer
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from worker.api.request import SpeechRequest
from worker.api.response import Segment, SpeechResponse, timed_words
from worker.audio.formats import content_type
from worker.job.context import Job
from worker.job.metrics import metrics_of
from worker.job.opening import open_speech
from worker.job.said import check_said
from worker.job.sentences import Speaker, Spoken
from worker.job.whole import WholeSpeech, assemble, write_subtitles
from worker.subtitles import formats as subtitle_formats
from worker.text.words import language_of
from worker.timing.word_timing import shift_to_whole


def speak(request: SpeechRequest, job: Job) -> SpeechResponse:
    """Do one job: its stages, in order.

    Raises the WorkerError that says what went wrong; JobCancelledError when it was cancelled. The
    answer's results are stored then in part or not at all.
    """
    keys = job.keys(request)
    opening = open_speech(request, job)
    script, voice, sampling = opening.script, opening.voice, opening.sampling
    speaker = Speaker(request, opening.voices, sampling, language_of(request.whole_text), job)
    spoken = speaker.speak(script.lines)
    silences = script.silences(request.multi_sentence_gap, job.components.engine.sample_rate)
    with job.watch("audio"):
        speech = assemble(request, spoken.takes.kept, silences, job)
    check_said(opening.voices, spoken.takes.kept, job)
    words = shift_to_whole([take.words for take in spoken.takes.kept], speech.sentences)
    speakers = [sentence.speaker for sentence in speech.sentences]
    subtitles = None
    if request.enable_subtitles:
        with job.watch("subtitles"):
            subtitles = write_subtitles(request, words, speech, job.folder)
    job.cancellation.check()
    with job.watch("storage"):
        store(request, speech, subtitles, job)
        if request.save_voice is not None:
            job.components.voices.save(request.save_voice, voice.whole, job.cancellation)
    response = SpeechResponse(
        audio_url="",
        sample_rate=speech.sample_rate,
        duration=speech.duration,
        loudness=None if speech.loudness is None else round(speech.loudness, 1),
        segments=segments_of(spoken, speech),
        word_timings=timed_words(words, speakers) if request.wants_timings else None,
        voice=voice.used,
        speakers=opening.speakers,
        seed=sampling.seed,
        warnings=tuple(job.warnings),
        metrics=metrics_of(job.watch, spoken.takes, opening.voice_tokens, speech.duration),
    )
    return keys.sign(response, partial(job.url, request))


def store(request: SpeechRequest, speech: WholeSpeech, subtitles: Path | None, job: Job) -> None:
    """Put the audio, and the subtitles where there are any, into the storage."""
    keys = job.keys(request)
    job.store(speech.file, keys.audio, content_type(request.output_format, speech.sample_rate))
    if subtitles is not None:
        kind = subtitle_formats.CONTENT_TYPES[request.subtitle_format]
        job.store(subtitles, str(keys.subtitles), kind)


def segments_of(spoken: Spoken, speech: WholeSpeech) -> tuple[Segment, ...]:
    """The sentences as the answer has them."""
    return tuple(
        Segment(text=span.text, start=span.start, end=span.end, audio_url=url, speaker=span.speaker)
        for span, url in zip(speech.sentences, spoken.urls, strict=True)
    )
