"""A worker's components, made small: the speech is tones, and words stand side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from tests.support.sounds import tone
from worker.cancellation import Cancellation
from worker.components import Components
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Begin, DesignedVoice, Piece, Utterance
from worker.speech.voice import Style, Voice
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.timing.word_timing import SentenceSpan, WordTiming
from worker.voices.library import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)
RATE = 16_000
WORD = 0.2  # seconds that a word takes
TEXT = "One.\nTwo two.\nThree three three."  # three sentences of one, two and three words
DESIGNED = Voice((7, 8), style=Style("female", "moderate", "moderate", 1, 9))
HEARD = Voice((1, 2), (3, 4))


@dataclass(frozen=True)
class Asked:
    """One call of `speak`."""

    sentences: tuple[str, ...]
    voice: Voice | tuple[Voice, ...]  # of all sentences, or of each where they differ
    sampling: Sampling
    continues: bool
    cancellation: Cancellation | None


@dataclass
class ToneEngine:
    """Speaks a tone of `word` seconds for each word; fails or waits where a test wants it to."""

    before: Callable[[str], object] = lambda _sentence: None  # called before each is spoken
    # Called before each piece of a stream: the sentence's index, the piece's number from 1.
    before_piece: Callable[[int, int], object] = lambda _sentence, _piece: None
    silent: frozenset[str] = frozenset()
    cut: frozenset[str] = frozenset()  # those that reached their limit
    queue_seconds: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    designed: list[tuple[Style, str, Sampling, Cancellation | None]] = field(default_factory=list)
    closed: int = 0  # calls of `speak` that are over
    broken: Exception | None = None  # what the device says when asked for its memory
    free: float | None = None
    word: float = WORD  # seconds
    slots: int = 16
    designs: bool = True
    begun: list[tuple[str, int]] = field(default_factory=list)  # sentences that came one by one
    pieces: int = 3  # that a sentence comes in for who listens while it is spoken

    sample_rate = RATE

    def speak(
        self,
        sentences: Sequence[str],
        voice: Voice | Sequence[Voice],
        sampling: Sampling,
        *,
        continues: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Generator[Utterance, None, None]:
        voices = (voice,) if isinstance(voice, Voice) else tuple(voice)
        one = voices[0] if len(set(voices)) == 1 else voices
        self.asked.append(Asked(tuple(sentences), one, sampling, continues, cancellation))
        return self._speak(sentences)

    def _speak(self, sentences: Sequence[str]) -> Generator[Utterance, None, None]:
        try:
            for index, sentence in enumerate(sentences):
                self.before(sentence)
                count = len(sentence.split())
                samples = tone(400.0, self.word * count)
                yield Utterance(
                    text=sentence,
                    samples=np.zeros_like(samples) if sentence in self.silent else samples,
                    semantic_tokens=(len(self.asked), index),
                    tokens=10 * count,
                    complete=sentence not in self.cut,
                    codec_seconds=0.0,
                    queue_seconds=self.queue_seconds,
                    occupancy=float(count),
                )
        finally:
            self.closed += 1

    def stream(
        self,
        sentences: Sequence[str],
        voice: Voice | Sequence[Voice],
        sampling: Sampling,
        *,
        continues: bool = False,
        eager: bool = True,
        cancellation: Cancellation | None = None,
    ) -> Generator[Piece, None, None]:
        spoken = self.speak(
            sentences, voice, sampling, continues=continues, cancellation=cancellation
        )
        with closing(spoken):
            for index, utterance in enumerate(spoken):
                parts = np.array_split(utterance.samples, self.pieces if eager else 1)
                for number, samples in enumerate(parts, 1):
                    if cancellation is not None:
                        cancellation.check()
                    self.before_piece(index, number)
                    yield Piece(index, samples, utterance if number == len(parts) else None)

    def one_by_one(self, sampling: Sampling, cancellation: Cancellation | None = None) -> Begin:
        def begin(text: str, index: int, voice: Voice) -> Generator[Piece, None, None]:
            pieces = self.stream([text], voice, sampling, cancellation=cancellation)
            first = next(pieces)
            self.begun.append((text, index))

            def given() -> Generator[Piece, None, None]:
                for piece in chain([first], pieces):
                    yield replace(piece, sentence=index)

            return given()

        return begin

    def design(
        self, style: Style, text: str, sampling: Sampling, cancellation: Cancellation | None = None
    ) -> DesignedVoice:
        self.designed.append((style, text, sampling, cancellation))
        return DesignedVoice(DESIGNED, 5)

    def listen(
        self, path: Path, transcript: str | None = None, cancellation: Cancellation | None = None
    ) -> Voice:
        return HEARD

    def why_unusable(self, voice: Voice) -> str | None:
        return None

    def count(self) -> tuple[int, int]:
        return len(self.asked) - self.closed, 0

    def free_memory(self) -> float | None:
        if self.broken is not None:
            raise self.broken
        return self.free


@dataclass
class EvenAligner:
    """Puts a sentence's words side by side; those of `weak` takes do not fit the sound."""

    weak: Callable[[str, int], bool] = lambda _text, _time: False  # sentence, how often it came
    seen: list[tuple[str, int, str | None]] = field(default_factory=list)

    def align(
        self,
        samples: np.ndarray,
        sample_rate: int,
        sentences: Sequence[SentenceSpan],
        *,
        default: str | None = None,
    ) -> list[WordTiming]:
        (sentence,) = sentences
        time = sum(text == sentence.text for text, _, _ in self.seen)
        self.seen.append((sentence.text, len(samples), default))
        words = sentence.text.split()
        step = (sentence.end - sentence.start) / len(words)
        score = 0.1 if self.weak(sentence.text, time) else 0.9
        return [
            WordTiming(word, i * step, (i + 1) * step, score, 0, estimated=False)
            for i, word in enumerate(words)
        ]


class NotedStorage(LocalStorage):
    """A folder that notes what is stored, in order, and refuses where told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.put_keys: list[tuple[str, str]] = []  # key, content type
        self.expiries: set[int] = set()
        self.before_put: Callable[[str], object] = lambda _key: None

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        self.before_put(key)
        super().put(path, key, content_type, cancellation=cancellation)
        self.put_keys.append((key, content_type))

    def url(self, key: str, expiry_seconds: int) -> str:
        self.expiries.add(expiry_seconds)
        return f"{super().url(key, expiry_seconds)}?for={expiry_seconds}"


@dataclass
class SmallParts:
    """The components, and each of the small ones that they are made of."""

    components: Components
    engine: ToneEngine
    storage: NotedStorage
    voices: Voices


def small_components(folder: Path, aligner: EvenAligner | None = None) -> SmallParts:
    engine = ToneEngine()
    storage = NotedStorage(folder / "storage")
    voices = Voices(engine, storage, KEYS, folder / "cache")
    components = Components(
        engine=engine,
        voices=voices,
        storage=storage,
        keys=KEYS,
        url_expiry=3600,
        max_job_seconds=7200,
        fetch_reference=lambda url, _folder, _cancellation: folder / url,
        aligner=aligner,
    )
    return SmallParts(components, engine, storage, voices)
