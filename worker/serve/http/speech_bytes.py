"""A job's speech as the bytes of one audio file that is made while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.api.request import SpeechRequest
from worker.audio.encoders import open_encoder
from worker.audio.formats import StreamFormat
from worker.job.context import Job
from worker.job.live import LiveAudio, LiveEnd, LiveEvent, speak_live
from worker.job.live_sentences import LiveSentence
from worker.job.speech_file import tags_of


@dataclass(frozen=True)
class AudioBytes:
    """Some bytes of the file."""

    content: bytes


Item = AudioBytes | LiveSentence | LiveEnd


def encoded(request: SpeechRequest, format: StreamFormat, job: Job) -> Iterator[Item]:  # noqa: A002 - the API's word
    """Speak the request; give the file's bytes as they are made, sentences and end between them."""
    events: Iterator[LiveEvent] = speak_live(request, job)
    encoder = open_encoder(
        format,
        job.components.engine.sample_rate,
        rate=request.sample_rate,
        bit_rate=request.bit_rate,
        tags=tags_of(request, job.components.voices.model),
    )
    for event in events:
        if isinstance(event, LiveAudio):
            with job.watch("audio"):
                content = encoder.encode(event.samples)
        else:
            content = encoder.finish() if isinstance(event, LiveEnd) else b""
        if content:
            yield AudioBytes(content)
        if not isinstance(event, LiveAudio):
            yield event
