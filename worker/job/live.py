"""A job for somebody who listens while it is spoken: its audio piece by piece, then its words.

The stages are those of `pipeline`, but each takes the audio as it comes. What has been heard cannot
be spoken again, so no sentence has another take; nothing is stored but the voice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import get_args

import numpy as np

from worker.api.request import SpeechRequest
from worker.api.response import Metrics, Segment, SpeakerUsed, TimedWord, VoiceUsed, timed_words
from worker.audio.live import LiveLimiter
from worker.audio.waveform import Samples
from worker.job.channel import Channel
from worker.job.context import Job
from worker.job.limits import only_silence
from worker.job.live_sentences import (
    LiveSentence,
    LiveSentences,
    SentenceStages,
    segment_of,
    span_of,
)
from worker.job.metrics import metrics_of
from worker.job.opening import Opening, open_speech
from worker.job.retakes import Take, Takes
from worker.job.said import warn_unsaid
from worker.job.speech_file import limit_of
from worker.job.speech_gate import SpeechGate
from worker.speech.engine import Piece
from worker.subtitles import cues, formats
from worker.subtitles.formats import Format as SubtitleFormat
from worker.subtitles.style import SubtitleStyle
from worker.timing.word_timing import shift_to_whole


@dataclass(frozen=True, eq=False)
class LiveAudio:
    """Samples float32 [n], mono, that follow on those before."""

    samples: Samples


@dataclass(frozen=True)
class LiveEnd:
    """What is known when all is said."""

    sample_rate: int
    duration: float  # seconds
    segments: tuple[Segment, ...]
    words: tuple[TimedWord, ...] | None
    # The subtitle file's text in each format, where the job wants one.
    subtitles: Mapping[SubtitleFormat, str] | None
    voice: VoiceUsed
    speakers: tuple[SpeakerUsed, ...] | None
    seed: int
    warnings: tuple[str, ...]
    metrics: Metrics


LiveEvent = LiveAudio | LiveSentence | LiveEnd


def speak_live(request: SpeechRequest, job: Job) -> Generator[LiveEvent, None, None]:
    """Speak the job's text; audio as it is made, each sentence once it is through, then the end.

    Closing the generator gives up what is not spoken yet. Raises the WorkerError that says what
    went wrong, and JobCancelledError.
    """
    opening = open_speech(request, job)
    if request.save_voice is not None:
        with job.watch("storage"):
            job.components.voices.save(request.save_voice, opening.voice.whole, job.cancellation)
    yield from LiveSpeaker(request, opening, job).speak()


class LiveSpeaker:
    """Speaks the sentences of one job to a listener."""

    def __init__(self, request: SpeechRequest, opening: Opening, job: Job) -> None:
        self._request = request
        self._opening = opening
        self._job = job
        self._rate = job.components.engine.sample_rate
        self._limiter = LiveLimiter(self._rate, limit_of(request))
        self._stages = SentenceStages(self._rate, job.watch)
        self._sentences = LiveSentences(request, job, self._tell)
        self._sentences.gate = SpeechGate(opening.voices, request.max_length)
        self._takes: list[Take] = []  # of the sentences that are through
        self._channel: Channel[LiveEvent] = Channel()
        self._through: deque[LiveSentence] = deque()  # and have not been given

    def speak(self) -> Generator[LiveEvent, None, None]:
        """Give the events of the job, in order."""
        with self._sentences as sentences:
            spoken = self._spoken()
            if not sentences.timed:
                with closing(spoken):
                    yield from spoken
                return
            # Words come from another thread: they need not wait for the audio after them.
            with self._channel as channel:
                channel.fill(spoken, "speech")
                yield from channel

    def _tell(self, index: int, take: Take) -> None:
        """Tell of a sentence that is through."""
        self._takes.append(take)
        sentence = self._sentences.told(index, len(self._opening.lines), take)
        if self._sentences.timed:
            self._channel.put(sentence)
        else:
            self._through.append(sentence)

    def _spoken(self) -> Generator[LiveEvent, None, None]:
        """The audio, and what is not told of from beside; then the end."""
        with closing(self._pieces()) as pieces:
            for samples in self._limited(self._finished(pieces)):
                if len(samples):
                    yield LiveAudio(samples)
                while self._through:
                    yield self._through.popleft()
        self._sentences.rest()
        yield self._end(self._takes)

    def _pieces(self) -> Generator[Piece, None, None]:
        """The engine's pieces; the time that they are waited for is speech's."""
        job, opening = self._job, self._opening
        pieces = job.components.engine.stream(
            [line.said for line in opening.lines],
            [opening.voices[line.speaker] for line in opening.lines],
            opening.sampling,
            continues=self._request.continues,
            cancellation=job.cancellation,
        )
        with closing(pieces):
            while True:
                with job.watch("speech"):
                    piece = next(pieces, None)
                if piece is None:
                    return
                job.watch.mark("first_audio")
                yield piece

    def _finished(self, pieces: Iterator[Piece]) -> Iterator[Samples]:
        """The pieces trimmed and shifted, and the gaps between the sentences."""
        lines = self._opening.lines
        silences = self._opening.script.silences(self._request.multi_sentence_gap, self._rate)
        before = silences[0]  # not sent before the first sentence: that may fail
        for piece in pieces:
            line = lines[piece.sentence]
            if before:
                yield self._silence(before)
                before = 0
            finished = self._stages.feed(line, piece.samples, last=piece.utterance is not None)
            self._sentences.add(finished)
            yield finished.samples
            if piece.utterance is not None:
                self._sentences.end(piece.sentence, line, piece.utterance)
                yield self._silence(silences[piece.sentence + 1])

    def _silence(self, length: int) -> Samples:
        """So many samples of silence between two sentences."""
        self._sentences.skip(length)
        return np.zeros(length, np.float32)

    def _limited(self, finished: Iterator[Samples]) -> Iterator[Samples]:
        for samples in finished:
            yield self._limiter.feed(samples)
            self._job.cancellation.check()
        yield self._limiter.feed(np.zeros(0, np.float32), last=True)

    def _end(self, takes: Sequence[Take]) -> LiveEnd:
        request, job, opening = self._request, self._job, self._opening
        if not any(take.clip.length for take in takes):
            raise only_silence()
        warn_unsaid(opening.voices, takes, job)
        spans = [span_of(take) for take in takes]
        words = shift_to_whole([take.words for take in takes], spans)
        subtitles = None
        if request.enable_subtitles:
            with job.watch("subtitles"):
                style = request.subtitle_style or SubtitleStyle()
                lines = cues.cues(words, spans, style)
                subtitles = {
                    kind: formats.write(lines, style, kind, bom=request.subtitle_bom)
                    for kind in get_args(SubtitleFormat)
                }
        duration = spans[-1].end + opening.script.pause
        speakers = [span.speaker for span in spans]
        return LiveEnd(
            sample_rate=request.sample_rate or self._rate,
            duration=duration,
            segments=tuple(map(segment_of, spans)),
            words=timed_words(words, speakers) if request.wants_timings else None,
            subtitles=subtitles,
            voice=opening.voice.used,
            speakers=opening.speakers,
            seed=opening.sampling.seed,
            warnings=tuple(job.warnings),
            metrics=metrics_of(job.watch, Takes(tuple(takes), ()), opening.voice_tokens, duration),
        )
