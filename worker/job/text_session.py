"""A session for text that comes as it is written: each sentence is spoken as soon as it is said.

One thread says sentences, others speak them:

    say         a sentence, a flush, a cancel or the end; never waits
    _begin      the voice is chosen, and sentences join the model's batch, AHEAD of the listener
    _speak      their audio, in order, as in one request (`live`): trimmed, shifted, limited
    speak       what the listener is given, in order

A text ends with a flush. Sentences and seconds are counted through the session, so that sentence i
has the draws that it would have in one request with the same seed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from worker.api.request import SpeechRequest
from worker.api.response import Metrics, VoiceUsed
from worker.audio.live import LiveLimiter
from worker.audio.waveform import Samples
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError
from worker.job.channel import Channel
from worker.job.context import Job
from worker.job.limits import check_timings
from worker.job.live import LiveAudio
from worker.job.live_sentences import LiveSentence, LiveSentences, SentenceStages
from worker.job.metrics import metrics_of
from worker.job.opening import sampling_of
from worker.job.retakes import Take, Takes
from worker.job.said import warn_unsaid
from worker.job.script import check_said, lines_of_sentence
from worker.job.seeds import random_seed
from worker.job.speech_file import limit_of
from worker.job.speech_gate import SpeechGate
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Begin, Piece
from worker.speech.voice import Voice
from worker.text.line import Line
from worker.voices.choose import ChosenVoice, choose_voice

AHEAD = 4  # sentences that are in the batch at once: the listener's, and those after it
# Of silence after a flush, at least, and more below 16 kHz: MP3 and AAC hold so many samples back.
# At 16 kHz these are 0.14 and 0.19 s; the other formats hold less.
PUSH_SECONDS = 0.2
PUSH_RATE = 16_000  # Hz
BEGUN = 64  # sentences and marks between the threads; then the client is read no further
_CONTEXT = 2_000  # characters of the text so far that say which language it is in


@dataclass(frozen=True)
class SessionStarted:
    """The session is ready for text."""

    sample_rate: int
    seed: int


@dataclass(frozen=True)
class SessionFlushed:
    """All that was said before a flush has been given."""


@dataclass(frozen=True)
class SessionCancelled:
    """What was said before a cancel, and not given, has been dropped."""


@dataclass(frozen=True)
class SessionEnd:
    """What is known when all is said."""

    sample_rate: int
    duration: float  # seconds that were given
    seed: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SessionSpoken(SessionEnd):
    """The end of a session in which something was said."""

    sentences: int  # that were given
    voice: VoiceUsed
    metrics: Metrics


SessionEvent = (
    LiveAudio | LiveSentence | SessionStarted | SessionFlushed | SessionCancelled | SessionEnd
)


@dataclass
class _Turn:
    """What is said between two cancels."""

    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(frozen=True)
class _Said:
    """A sentence that waits for its place in the batch; its line, where it was cut into several."""

    turn: _Turn
    text: str
    line: Line | None = None


@dataclass(frozen=True)
class _Begun:
    """A sentence in the batch."""

    turn: _Turn
    index: int
    line: Line
    pieces: Generator[Piece, None, None]


_Mark = SessionStarted | SessionFlushed | SessionCancelled | None  # None: the end


def _size(item: _Said | _Mark) -> int:
    """What an item counts where much waits: a flood of marks costs memory too."""
    return len(item.text) if isinstance(item, _Said) else 1


class TextSession:
    """Sentences in, audio and events out."""

    def __init__(
        self, request: SpeechRequest, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """`request` says how; its text counts for nothing.

        `on_progress` is called, from other threads, when less waits than before.
        """
        self._request = request
        self._on_progress = on_progress
        self._changed = threading.Condition()
        self._said: deque[_Said | _Mark] = deque()
        self._turn = _Turn()
        self._given_up = False
        self._open = 0  # sentences that were said, and not given or dropped
        # Characters that are not in the batch; a flush or a cancel counts as one.
        self._waiting = 0
        self._in_batch = 0  # sentences that are

    # For who says

    @property
    def busy(self) -> bool:
        """Whether something said was not given yet."""
        return self._open > 0

    @property
    def waiting(self) -> int:
        """How many characters wait for a place in the batch."""
        return self._waiting

    def say(self, sentence: str) -> None:
        """Have a sentence spoken after those before it."""
        with self._changed:
            self._open += 1
            self._add(_Said(self._turn, sentence))

    def flush(self) -> None:
        """End the text; the listener is told when all of it has been given."""
        with self._changed:
            self._add(SessionFlushed())

    def cancel(self) -> None:
        """Drop what has not been given."""
        with self._changed:
            turn, self._turn = self._turn, _Turn()
            self._add(SessionCancelled())
        turn.cancellation.cancel()

    def end(self) -> None:
        """Say that nothing follows."""
        with self._changed:
            self._add(None)

    def _add(self, item: _Said | _Mark) -> None:
        self._said.append(item)
        self._waiting += _size(item)
        self._changed.notify_all()

    # For who listens

    def speak(self, job: Job) -> Iterator[SessionEvent]:
        """Give the events of the session, in order. Raises what ends it early."""
        check_timings(self._request, job.components)
        sampling = sampling_of(self._request, random_seed(self._request))
        speaker = _Speaker(self, self._request, sampling, job)
        job.cancellation.call(self.give_up)
        try:
            with Channel[SessionEvent]() as channel:
                speaker.start(channel)
                yield from channel
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Drop all, and take no more."""
        with self._changed:
            self._given_up = True
            turn = self._turn
            self._changed.notify_all()
        turn.cancellation.cancel()

    # For the threads between

    def next_said(self, ahead: int) -> _Said | _Mark:
        """Wait for what was said next; for a sentence, until less than `ahead` are in the batch."""

        def room() -> bool:
            return self._in_batch < ahead

        def next_is_due() -> bool:
            if self._given_up or not self._said:
                return self._given_up
            first = self._said[0]
            return not isinstance(first, _Said) or first.turn.cancellation.cancelled or room()

        with self._changed:
            self._changed.wait_for(next_is_due)
            if self._given_up:
                raise JobCancelledError("the session was given up")
            item = self._said.popleft()
            self._waiting -= _size(item)
        self._on_progress()
        return item

    def say_next(self, turn: _Turn, lines: Sequence[Line]) -> None:
        """Have the rest of a sentence spoken before what was said after it."""
        with self._changed:
            self._open += len(lines)
            rest = [_Said(turn, line.text, line) for line in lines]
            self._said.extendleft(reversed(rest))
            self._waiting += sum(map(_size, rest))

    def begun(self) -> None:
        """Count a sentence as one in the batch."""
        with self._changed:
            self._in_batch += 1

    def passed(self, *, begun: bool) -> None:
        """Count a sentence as given or dropped; whether it was `begun`."""
        with self._changed:
            self._open -= 1
            self._in_batch -= begun
            self._changed.notify_all()
        self._on_progress()


class _Speaker:
    """Speaks what a session is told, in threads of its own."""

    def __init__(
        self, session: TextSession, request: SpeechRequest, sampling: Sampling, job: Job
    ) -> None:
        self._session = session
        self._request = request
        self._sampling = sampling
        self._job = job
        self._rate = job.components.engine.sample_rate
        self._heard_rate = request.sample_rate or self._rate  # of what leaves
        self._gap = round(request.multi_sentence_gap * self._rate)
        self._ahead = 1 if request.continues else AHEAD
        self._index = 0  # of the next sentence
        self._voice: ChosenVoice | None = None
        self._speaking: Voice | None = None
        self._begins: tuple[_Turn, Begin] | None = None
        self._stages = SentenceStages(self._rate, job.watch)
        self._limiter = LiveLimiter(self._rate, limit_of(self._request))
        self._given = 0  # samples
        self._takes: list[Take] = []  # of the sentences given, for the metrics
        self._within = False  # whether a sentence of this text was given before
        self._sentences = LiveSentences(request, job, self._tell)
        self._sentences.text = ""

    def start(self, channel: Channel[SessionEvent]) -> None:
        """Start the threads; the channel ends with the session, or with what went wrong."""
        self._channel = channel
        self._begun: Channel[_Begun | _Mark] = Channel(BEGUN)
        self._begun.fill(self._begin(), "sentences")
        channel.fill(self._speak(), "speech")

    # Sentences into the batch

    def _begin(self) -> Generator[_Begun | _Mark, None, None]:
        """Choose the voice, and put sentences into the batch."""
        if self._request.style is None:
            self._choose("")
        yield SessionStarted(self._heard_rate, self._sampling.seed)
        while True:
            item = self._session.next_said(self._ahead)
            if not isinstance(item, _Said):
                yield item
                if item is None:
                    return
            elif item.turn.cancellation.cancelled:
                self._session.passed(begun=False)
            elif (begun := self._into_batch(item)) is not None:
                yield begun

    def _into_batch(self, said: _Said) -> _Begun | None:
        line = said.line or self._divided(said)
        try:
            if self._voice is None:
                self._choose(line.said)
            begin = self._begin_of(said.turn)
            pieces = begin(line.said, self._index, cast("Voice", self._speaking))
        except JobCancelledError:
            self._job.cancellation.check()
            self._session.passed(begun=False)  # cancelled meanwhile
            return None
        self._session.begun()
        self._index += 1
        return _Begun(said.turn, self._index - 1, line, pieces)

    def _divided(self, said: _Said) -> Line:
        """The sentence as it is said; the lines after the first go before what was said later."""
        first, *others = lines = lines_of_sentence(said.text, self._request)
        check_said(lines, self._request)
        if others:
            self._session.say_next(said.turn, others)
        return first

    def _choose(self, first_sentence: str) -> None:
        """Choose the voice; a designed one is designed for the first sentence."""
        job, request = self._job, self._request
        with job.watch("voice"):
            voice = choose_voice(request, first_sentence, self._sampling, job.voice_sources)
        if request.save_voice is not None:
            with job.watch("storage"):
                job.components.voices.save(request.save_voice, voice.whole, job.cancellation)
        self._voice, self._speaking = voice, voice.speaking
        self._sentences.gate = SpeechGate({None: voice.speaking}, request.max_length)

    def _begin_of(self, turn: _Turn) -> Begin:
        """What begins the sentences of this turn: they are one job to the batch."""
        if self._begins is None or self._begins[0] is not turn:
            engine = self._job.components.engine
            self._begins = turn, engine.one_by_one(self._sampling, turn.cancellation)
        return self._begins[1]

    # Sentences out of it

    def _speak(self) -> Generator[SessionEvent, None, None]:
        with self._sentences, self._begun as begun:
            for item in begun:
                if isinstance(item, _Begun):
                    yield from self._give(item)
                elif isinstance(item, SessionStarted):
                    yield item
                elif isinstance(item, SessionCancelled):
                    self._drop()
                    yield item
                else:
                    yield from self._flush(last=item is None)
                    yield item or self._end()

    def _give(self, begun: _Begun) -> Generator[SessionEvent, None, None]:
        """Give a sentence, or what there is of it before its turn is cancelled."""
        try:
            for samples in self._finished(begun):
                limited = self._limiter.feed(samples)
                begun.turn.cancellation.check()
                self._given += len(limited)
                if len(limited):
                    yield LiveAudio(limited)
        except JobCancelledError:
            if not begun.turn.cancellation.cancelled or self._job.cancellation.cancelled:
                raise
        finally:
            self._session.passed(begun=True)

    def _finished(self, begun: _Begun) -> Iterator[Samples]:
        """The gap before a sentence, and its audio trimmed and shifted."""
        turn = begun.turn
        if self._within:
            self._sentences.skip(self._gap)
            yield np.zeros(self._gap, np.float32)
        self._within = True
        with closing(begun.pieces) as pieces:
            while True:
                turn.cancellation.check()  # what was spoken before the cancel is dropped too
                with self._job.watch("speech"):
                    piece = next(pieces, None)
                if piece is None:
                    return
                utterance = piece.utterance
                finished = self._stages.feed(begun.line, piece.samples, last=utterance is not None)
                self._sentences.add(finished)
                yield finished.samples
                if utterance is None:
                    continue
                self._sentences.text = f"{self._sentences.text} {begun.line.text}"[-_CONTEXT:]
                if self._request.continues and self._speaking is not None:
                    self._speaking = replace(
                        self._speaking,
                        transcript=utterance.text,
                        semantic_tokens=utterance.semantic_tokens,
                    )
                self._sentences.end(
                    begun.index, begun.line, utterance, lambda: not turn.cancellation.cancelled
                )

    def _tell(self, index: int, take: Take) -> None:
        self._channel.put(self._sentences.told(index, None, take))
        # A session may be long: what it keeps of a sentence is small.
        utterance = replace(take.utterance, semantic_tokens=())
        self._takes.append(replace(take, utterance=utterance, words=()))

    def _flush(self, *, last: bool) -> Generator[SessionEvent, None, None]:
        """Give all that is held back, and wait for the words.

        Encoders hold some audio back too, till they are at their `last`: silence pushes it out,
        that which would come before the next sentence.
        """
        silence = 0
        if self._within and not last:
            longer = max(1.0, PUSH_RATE / self._heard_rate)
            silence = max(self._gap, round(PUSH_SECONDS * longer * self._rate))
            self._sentences.skip(silence)
        rest = self._limiter.feed(np.zeros(silence, np.float32), last=True)
        self._renew()
        self._given += len(rest)
        if len(rest):
            yield LiveAudio(rest)
        self._sentences.rest()

    def _drop(self) -> None:
        """Forget the sentence that was being given."""
        self._renew()
        self._stages.renew()
        self._sentences.restart(self._given)

    def _renew(self) -> None:
        self._limiter = LiveLimiter(self._rate, limit_of(self._request))
        self._within = False

    def _end(self) -> SessionEnd:
        duration, seed = self._given / self._rate, self._sampling.seed
        if self._speaking is not None:
            warn_unsaid({None: self._speaking}, self._takes, self._job)
        warnings = tuple(self._job.warnings)
        if self._voice is None or not self._takes:
            return SessionEnd(self._heard_rate, duration, seed, warnings)
        takes = Takes(tuple(self._takes), ())
        metrics = metrics_of(self._job.watch, takes, self._voice.tokens, max(duration, 1e-9))
        return SessionSpoken(
            self._heard_rate, duration, seed, warnings, len(self._takes), self._voice.used, metrics
        )
