"""The sentences of a job for a listener: counted as they are given, their words timed beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from worker.api.request import SpeechRequest
from worker.api.response import Segment, TimedWord, timed_words
from worker.audio.live import LiveShift, LiveTrim
from worker.audio.spool import Clip
from worker.audio.waveform import Audio, Samples
from worker.job.context import Job
from worker.job.limits import check_spoken
from worker.job.retakes import Take
from worker.job.speech_check import Verdict
from worker.job.speech_gate import SpeechGate
from worker.job.word_check import judge_words
from worker.speech.engine import Utterance
from worker.stopwatch import Stopwatch
from worker.text.line import Line
from worker.text.words import language_of
from worker.timing.word_timing import SentenceSpan, at_tempo, shift_to_whole


@dataclass(frozen=True)
class LiveSentence:
    """A sentence whose audio has been given, with the times of its words where they are wanted."""

    index: int  # counts from 0
    total: int | None  # where it is known
    segment: Segment
    words: tuple[TimedWord, ...] | None


@dataclass(frozen=True, eq=False)
class Finished:
    """Some of a sentence's audio, as it is heard and as it was spoken."""

    samples: Samples  # trimmed and shifted
    spoken: Samples  # trimmed alone: the aligner hardly understands what was made much faster


class SentenceStages:
    """Trims and shifts one sentence after the other."""

    def __init__(self, sample_rate: int, watch: Stopwatch) -> None:
        self._rate = sample_rate
        self._watch = watch
        self._now: tuple[LiveTrim, LiveShift] | None = None

    def renew(self) -> None:
        """Forget the sentence that was fed."""
        self._now = None

    def feed(self, line: Line, samples: Samples, *, last: bool) -> Finished:
        """Take the next samples of the sentence and give the next finished ones [n]."""
        with self._watch("audio"):
            if self._now is None:
                shift = LiveShift(self._rate, line.semitones, line.tempo)
                self._now = LiveTrim(self._rate), shift
            trim, shift = self._now
            spoken = trim.feed(samples, last=last)
            finished = shift.feed(spoken, last=last)
        if last:
            self.renew()
        return Finished(finished, spoken)


@dataclass
class _Sentence:
    """A sentence that is being given: where it began, and its speech so far where that is timed."""

    start: int  # samples
    length: int = 0
    parts: list[Samples] = field(default_factory=list)


class LiveSentences:
    """Counts what was given of each sentence, and has its words timed beside those after it."""

    def __init__(
        self, request: SpeechRequest, job: Job, through: Callable[[int, Take], None]
    ) -> None:
        """`through` is called with each sentence's index and take, in order.

        Where words are timed it is called in a thread of its own, else by `end`.
        """
        self._request = request
        self._job = job
        self._through = through
        self._rate = job.components.engine.sample_rate
        self._aligner = job.components.aligner if request.wants_timings else None
        self._now = _Sentence(0)
        self._timing: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "words")
        self.gate: SpeechGate | None = None  # judges each sentence, from when the voice is known
        # Words that have no language of their own have that of this text.
        self.text = request.whole_text

    def __enter__(self) -> LiveSentences:
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def timed(self) -> bool:
        """Whether words are timed."""
        return self._aligner is not None

    def add(self, finished: Finished) -> None:
        """Count audio of the sentence that is being given."""
        self._now.length += len(finished.samples)
        if self._aligner is not None:
            self._now.parts.append(finished.spoken)
        check_spoken((self._now.start + self._now.length) / self._rate, self._job)

    def skip(self, gap: int) -> None:
        """Count so many samples between two sentences."""
        self._now.start += gap

    def restart(self, start: int) -> None:
        """Forget the sentence that is being given: the next begins at this sample."""
        self._now = _Sentence(start)

    def end(
        self,
        index: int,
        line: Line,
        utterance: Utterance,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """End the sentence that is being given; it is not told of where it is not `wanted`."""
        while self._timing and self._timing[0].done():
            self._timing.popleft().result()
        done = self._now
        self._now = _Sentence(done.start + done.length)
        clip = Clip(done.start, done.length, self._rate)
        gate = self.gate
        verdict = (
            Verdict((), 0.0) if gate is None else gate.judge(utterance, self._rate, line.speaker)
        )
        utterance = replace(utterance, samples=utterance.samples[:0].copy())
        take = Take(line, utterance, clip, (), verdict)
        if self._aligner is None:
            self._through(index, take)
            return

        def time_words() -> None:
            if wanted():
                timed = self._timed(take, done.parts)
                if wanted():
                    self._through(index, timed)

        self._timing.append(self._thread.submit(time_words))

    def _timed(self, take: Take, parts: Sequence[Samples]) -> Take:
        """The sentence with its words; in the thread beside."""
        if self._aligner is None:
            raise ValueError("there is no aligner")
        self._job.cancellation.check()
        with self._job.watch("timing"):
            spoken, line = Audio(np.concatenate(parts), take.clip.sample_rate), take.line
            span = SentenceSpan(line.text, 0.0, spoken.duration, line.replacements)
            words = self._aligner.align(
                spoken.samples, spoken.sample_rate, [span], default=language_of(self.text)
            )
            judged = judge_words(words, span, spoken, self._aligner)
        heard = at_tempo(words, line.tempo)
        return replace(take, words=tuple(heard), verdict=take.verdict + judged)

    def rest(self) -> None:
        """Wait until all sentences that have ended are through. Raises what went wrong."""
        while self._timing:
            self._timing.popleft().result()

    def told(self, index: int, total: int | None, take: Take) -> LiveSentence:
        """A sentence as the listener is told of it."""
        span, words = span_of(take), None
        if self._aligner is not None:
            words = timed_words(shift_to_whole([take.words], [span]), [span.speaker])
        return LiveSentence(index, total, segment_of(span), words)


def span_of(take: Take) -> SentenceSpan:
    """Where a sentence stands in the whole."""
    clip = take.clip
    start, end = clip.start / clip.sample_rate, (clip.start + clip.length) / clip.sample_rate
    return SentenceSpan(take.line.text, start, end, speaker=take.line.speaker)


def segment_of(span: SentenceSpan) -> Segment:
    """A sentence as an answer has it."""
    return Segment(text=span.text, start=span.start, end=span.end, speaker=span.speaker)
