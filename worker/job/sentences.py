"""Speaks a job's sentences: each finished, timed and judged, and spoken again if it came out badly.

Sentences flow: while one is finished and timed, and in a streamed job stored and announced, those
after it are being spoken. Their audio waits on the disk, so that a job's memory does not depend on
how much it says.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

from worker.api.request import SpeechRequest
from worker.audio import waveform
from worker.audio.waveform import Audio
from worker.job.context import Announce, Job
from worker.job.limits import check_spoken
from worker.job.retakes import Take, Takes, choose_takes
from worker.job.seeds import retake_seed
from worker.job.sentence_stream import SentenceStream
from worker.job.speech_gate import SpeechGate
from worker.job.word_check import judge_words
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Utterance
from worker.speech.voice import Voice
from worker.text.line import Line
from worker.timing.word_timing import SentenceSpan, at_tempo


@dataclass(frozen=True)
class Spoken:
    """All sentences of a job, and the URL of each where the job is streamed."""

    takes: Takes
    urls: Sequence[str | None]


@dataclass(frozen=True)
class Speaker:
    """Speaks the sentences of one job."""

    request: SpeechRequest
    voices: Mapping[str | None, Voice]  # by the speaker's name
    sampling: Sampling
    language: str  # of words that have none of their own
    job: Job

    @cached_property
    def gate(self) -> SpeechGate:
        """What judges every sentence, words or not."""
        return SpeechGate(self.voices, self.request.max_length)

    def speak(self, lines: Sequence[Line]) -> Spoken:
        """Speak all lines, a sentence each.

        In a streamed job a sentence that came out badly is spoken again at once, for those after
        it are announced after it; else all of them are spoken again together, as one batch.
        """
        with closing(self._first_takes(lines)) as first:
            if self.job.announce is not None:
                return self._stream(first, self.job.announce, len(lines))
            takes = choose_takes(first, self._retakes, self.request.max_retries)
            return Spoken(takes, [None] * len(takes.kept))

    def _stream(self, first: Iterator[Take], announce: Announce, total: int) -> Spoken:
        """Choose, store and announce one sentence after the other."""
        kept: list[Take] = []
        dropped: list[Take] = []

        def speak_again(takes: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
            return self._retakes([*kept, *takes], [len(kept) + i for i in bad], attempt)

        with SentenceStream(announce, self.request, total, self.job) as stream:
            for take in first:
                takes = choose_takes([take], speak_again, self.request.max_retries)
                kept += takes.kept
                dropped += takes.dropped
                stream.add(take.line, takes.kept[0].clip)
            with self.job.watch("storage"):
                return Spoken(Takes(tuple(kept), tuple(dropped)), stream.urls())

    def _first_takes(self, lines: Sequence[Line]) -> Generator[Take, None, None]:
        """The lines in order, each finished and timed as soon as it is spoken."""
        job, watch = self.job, self.job.watch
        spoken = job.components.engine.speak(
            [line.said for line in lines],
            self._voices_of(lines),
            self.sampling,
            continues=self.request.continues,
            cancellation=job.cancellation,
        )
        seconds = 0.0  # of the whole so far, without a gap at its end
        try:
            for count, line in enumerate(lines, 1):
                with watch("speech"):
                    utterance = next(spoken)
                if count == 1:
                    watch.add("queue", utterance.queue_seconds)
                    watch.add("speech", -utterance.queue_seconds)
                job.progress(count, len(lines))
                take = self._finish(line, utterance)
                watch.mark("first_audio")
                seconds += line.silence(self.request.multi_sentence_gap, first=count == 1)
                seconds += take.clip.duration
                check_spoken(seconds, job)
                yield take
                job.cancellation.check()
        finally:
            spoken.close()  # gives up what is not yet spoken

    def _retakes(self, takes: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        """Other takes of the sentences takes[i] for i in `bad`; `attempt` counts from 1."""
        retakes: list[Take] = []
        with closing(self._speak_again(takes, bad, attempt)) as spoken:
            for i in bad:
                with self.job.watch("speech"):
                    utterance = next(spoken)
                retakes.append(self._finish(takes[i].line, utterance))
                self.job.cancellation.check()
        return retakes

    def _speak_again(
        self, takes: Sequence[Take], bad: Sequence[int], attempt: int
    ) -> Generator[Utterance, None, None]:
        """Speak takes[i] for i in `bad`, with another seed but after the same words as before."""
        engine, cancellation = self.job.components.engine, self.job.cancellation
        sampling = replace(self.sampling, seed=retake_seed(self.sampling.seed, attempt))
        texts = [takes[i].utterance.text for i in bad]
        if not self.request.continues:
            voices = self._voices_of([takes[i].line for i in bad])
            yield from engine.speak(texts, voices, sampling, cancellation=cancellation)
            return
        for i, text in zip(bad, texts, strict=True):
            voice = self.voices[takes[i].line.speaker]
            if i:
                voice = _voice_after(voice, takes[i - 1].utterance)
            yield from engine.speak([text], voice, sampling, cancellation=cancellation)

    def _voices_of(self, lines: Sequence[Line]) -> list[Voice]:
        """The voice of each line."""
        return [self.voices[line.speaker] for line in lines]

    def _finish(self, line: Line, utterance: Utterance) -> Take:
        """Judge, trim and shift the sentence, keep it and, where timings are wanted, time it."""
        components, watch, request = self.job.components, self.job.watch, self.request
        with watch("audio"):
            verdict = self.gate.judge(utterance, components.engine.sample_rate, line.speaker)
            trimmed = waveform.trim(Audio(utterance.samples, components.engine.sample_rate))
            finished = waveform.shift(trimmed, line.semitones, line.tempo)
            clip = self.job.spool.add(finished)
            utterance = replace(utterance, samples=finished.samples[:0].copy())
        if not request.wants_timings or components.aligner is None:
            return Take(line, utterance, clip, (), verdict)
        with watch("timing"):
            # As it was spoken: the aligner hardly understands what was made much faster.
            span = SentenceSpan(line.text, 0.0, trimmed.duration, line.replacements)
            words = components.aligner.align(
                trimmed.samples, trimmed.sample_rate, [span], default=self.language
            )
            judged = judge_words(words, span, trimmed, components.aligner)
            timed = at_tempo(words, line.tempo)
            return Take(line, utterance, clip, tuple(timed), verdict + judged)


def _voice_after(voice: Voice, before: Utterance) -> Voice:
    """The voice as it continues from the sentence `before`."""
    return replace(voice, transcript=before.text, semantic_tokens=before.semantic_tokens)
