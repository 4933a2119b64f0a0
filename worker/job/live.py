"""A job for somebody who listens while it is spoken: its audio piece by piece, then its words.

The stages are those of `pipeline`, but each takes the audio as it comes. What has been heard cannot
be spoken again, so no sentence has another take; nothing is stored but the voice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from worker.api.request import SpeechRequest
from worker.api.response import Metrics, Segment, TimedWord, VoiceUsed
from worker.audio.live import LiveLimiter, LiveShift, LiveTrim
from worker.audio.spool import Clip
from worker.audio.waveform import Audio, Samples
from worker.job.context import Job
from worker.job.limits import check_spoken, only_silence
from worker.job.metrics import metrics_of
from worker.job.opening import Opening, open_speech
from worker.job.retakes import Take, Takes
from worker.job.speech_check import Verdict, judge
from worker.speech.engine import Piece, Utterance
from worker.subtitles import cues, formats
from worker.subtitles.formats import Format as SubtitleFormat
from worker.subtitles.style import SubtitleStyle
from worker.text.words import language_of
from worker.timing.word_timing import SentenceSpan, WordTiming, at_tempo, shift_to_whole


@dataclass(frozen=True, eq=False)
class LiveAudio:
    """Samples float32 [n], mono, that follow on those before."""

    samples: Samples


@dataclass(frozen=True)
class LiveSentence:
    """A sentence whose audio has been given, with the times of its words where they are wanted."""

    index: int  # counts from 0
    total: int
    segment: Segment
    words: tuple[TimedWord, ...] | None


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
    seed: int
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
        self._limiter = LiveLimiter(self._rate)
        self._sentences = _Sentences(request, opening, job)

    def speak(self) -> Generator[LiveEvent, None, None]:
        """Give the events of the job, in order."""
        with self._sentences as sentences, closing(self._pieces()) as pieces:
            for samples in self._limited(self._finished(pieces)):
                if len(samples):
                    yield LiveAudio(samples)
                yield from sentences.through()
            yield from sentences.rest()
            yield self._end(sentences.takes)

    def _pieces(self) -> Generator[Piece, None, None]:
        """The engine's pieces; the time that they are waited for is speech's."""
        job, opening = self._job, self._opening
        pieces = job.components.engine.stream(
            opening.sentences,
            opening.voice.speaking,
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
        request, rate, total = self._request, self._rate, len(self._opening.sentences)
        gap = round(request.multi_sentence_gap * rate)
        trim, shift = LiveTrim(rate), LiveShift(rate, request.pitch_shift, request.speed_shift)
        for piece in pieces:
            last = piece.utterance is not None
            with self._job.watch("audio"):
                trimmed = trim.feed(piece.samples, last=last)
                samples = shift.feed(trimmed, last=last)
            self._sentences.add(samples, trimmed)
            yield samples
            if piece.utterance is not None:
                self._sentences.end(piece.utterance)
                if piece.sentence + 1 < total:
                    self._sentences.skip(gap)
                    yield np.zeros(gap, np.float32)
                trim = LiveTrim(rate)
                shift = LiveShift(rate, request.pitch_shift, request.speed_shift)

    def _limited(self, finished: Iterator[Samples]) -> Iterator[Samples]:
        for samples in finished:
            yield self._limiter.feed(samples)
            self._job.cancellation.check()
        yield self._limiter.feed(np.zeros(0, np.float32), last=True)

    def _end(self, takes: Sequence[Take]) -> LiveEnd:
        request, job, voice = self._request, self._job, self._opening.voice
        if not any(take.clip.length for take in takes):
            raise only_silence()
        spans = [_span(take) for take in takes]
        words = shift_to_whole([take.words for take in takes], spans)
        subtitles = None
        if request.enable_subtitles:
            with job.watch("subtitles"):
                style = request.subtitle_style or SubtitleStyle()
                lines = cues.cues(words, spans, style)
                subtitles = {
                    kind: formats.write(lines, style, kind) for kind in get_args(SubtitleFormat)
                }
        duration = spans[-1].end
        return LiveEnd(
            sample_rate=self._rate,
            duration=duration,
            segments=tuple(map(_segment, spans)),
            words=tuple(map(TimedWord.of, words)) if request.wants_timings else None,
            subtitles=subtitles,
            voice=voice.used,
            seed=self._opening.sampling.seed,
            metrics=metrics_of(job.watch, Takes(tuple(takes), ()), voice.tokens, duration),
        )


@dataclass
class _Sentence:
    """A sentence that is being given: where it began, and its audio so far where that is timed."""

    start: int  # samples
    length: int = 0
    parts: list[Samples] = field(default_factory=list)


class _Sentences:
    """Counts what was given of each sentence, and has its words timed beside those after it."""

    def __init__(self, request: SpeechRequest, opening: Opening, job: Job) -> None:
        self._request = request
        self._job = job
        self._total = len(opening.sentences)
        self._rate = job.components.engine.sample_rate
        self._aligner = job.components.aligner if request.wants_timings else None
        self._now = _Sentence(0)
        self._timing: deque[Future[Take]] = deque()
        self._thread = ThreadPoolExecutor(1, "words")
        self.takes: list[Take] = []  # of the sentences that are through

    def __enter__(self) -> _Sentences:
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def add(self, samples: Samples, spoken: Samples) -> None:
        """Count samples of the sentence that is being given; `spoken` is what they came from."""
        self._now.length += len(samples)
        if self._aligner is not None:
            self._now.parts.append(spoken)
        check_spoken((self._now.start + self._now.length) / self._rate, self._job)

    def skip(self, gap: int) -> None:
        """Count so many samples between two sentences."""
        self._now.start += gap

    def end(self, utterance: Utterance) -> None:
        """End the sentence that is being given."""
        done = self._now
        self._now = _Sentence(done.start + done.length)
        clip = Clip(done.start, done.length, self._rate)
        utterance = replace(utterance, samples=utterance.samples[:0].copy())
        if self._aligner is None:
            take: Future[Take] = Future()
            take.set_result(Take(utterance, clip, (), Verdict((), 0.0)))
        else:
            take = self._thread.submit(self._timed, utterance, clip, done.parts)
        self._timing.append(take)

    def _timed(self, utterance: Utterance, clip: Clip, parts: Sequence[Samples]) -> Take:
        """The sentence with its words; in the thread beside."""
        if self._aligner is None:
            raise ValueError("there is no aligner")
        self._job.cancellation.check()
        language = language_of(self._request.text)
        with self._job.watch("timing"):
            # As it was spoken: the aligner hardly understands what was made much faster.
            spoken = Audio(np.concatenate(parts), clip.sample_rate)
            span = SentenceSpan(utterance.text, 0.0, spoken.duration)
            words = self._aligner.align(
                spoken.samples, spoken.sample_rate, [span], default=language
            )
        timed = at_tempo(words, self._request.speed_shift)
        return Take(utterance, clip, tuple(timed), judge(words, span))

    def through(self) -> Iterator[LiveSentence]:
        """The sentences that are through and have not been given yet."""
        while self._timing and self._timing[0].done():
            yield self._next()

    def rest(self) -> Iterator[LiveSentence]:
        """All that are left; waits for them."""
        while self._timing:
            yield self._next()

    def _next(self) -> LiveSentence:
        take = self._timing.popleft().result()
        self.takes.append(take)
        span, words = _span(take), None
        if self._aligner is not None:
            words = tuple(map(TimedWord.of, _shifted(take.words, span)))
        return LiveSentence(len(self.takes) - 1, self._total, _segment(span), words)


def _span(take: Take) -> SentenceSpan:
    clip = take.clip
    start, end = clip.start / clip.sample_rate, (clip.start + clip.length) / clip.sample_rate
    return SentenceSpan(take.utterance.text, start, end)


def _segment(span: SentenceSpan) -> Segment:
    return Segment(text=span.text, start=span.start, end=span.end)


def _shifted(words: Sequence[WordTiming], span: SentenceSpan) -> list[WordTiming]:
    return shift_to_whole([words], [span])
