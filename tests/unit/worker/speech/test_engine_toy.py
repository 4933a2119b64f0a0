"""The engine between parts of a few lines: which rows it asks for, in whose turn, and their end."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from tests.support.events import Events
from tests.support.random_checkpoint import Sizes, make_tokenizer
from tests.support.scheduling import occupancy
from tests.support.waiting import until
from volume.layout import PREPARED
from worker import cpu_info
from worker.cancellation import Cancellation
from worker.errors import BusyError, JobCancelledError, MemoryShortError, SetupError, SynthesisError
from worker.speech import device as device_module
from worker.speech import engine as engine_module
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import AudioParameters, Codec
from worker.speech.device import Lane
from worker.speech.engine import Engine, Piece, Utterance
from worker.speech.lm import loading
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.interface import WholeRows
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel
from worker.speech.prompt import Prompter
from worker.speech.voice import CodecSizes, Style, Voice

CPU = torch.device("cpu")
SIZES = CodecSizes(voice_length=5, global_codes=16, semantic_codes=96)
VOICE = Voice((3, 0, 15, 7, 7))
TEN = Sampling(max_tokens=10, temperature=1, top_k=0, top_p=1, seed=5)
CONFIG = LMConfig(2000, 2000, 8, 1, 1, 1, 400, 1e-6, 1e4, True)


class Cache(WholeRows):
    """Nothing is remembered."""

    positions = 1 << 20

    def rows(self, first: int, count: int) -> Cache:
        return self

    def copy(self, source: int, target: int, length: int) -> None:
        pass


@dataclass
class Parrot:
    """A model that likes the `liked` tokens best, and of the others each as much."""

    liked: frozenset[int] = frozenset()
    before_step: Callable[[], None] = lambda: None
    config: LMConfig = CONFIG
    steps: int = 0
    heads: int = 0
    device = CPU
    dtype = torch.bfloat16
    masked = False
    in_parts = False

    def new_cache(self, rows: int, positions: int | None = None) -> Cache:
        return Cache()

    def prefill(
        self, prompts: Sequence[Sequence[int]], cache: Cache, begins: Sequence[int] = ()
    ) -> Tensor:
        return torch.zeros(len(prompts), 1)

    def step(self, ids: Tensor, positions: Tensor, cache: Cache, length: int) -> Tensor:
        self.steps += 1
        self.before_step()
        return torch.zeros(len(ids), 1)

    def head(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        self.heads += 1
        row = torch.tensor([50.0 if int(i) in self.liked else 0.0 for i in ids])
        return lambda hidden: row.repeat(len(hidden), 1)


class ToyCodec:
    """Four samples of a token's code; pieces come after every second token."""

    device = CPU
    sizes = SIZES
    audio = AudioParameters(16_000, 4, 6.0, volume_normalize=True)

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        self.work = work
        self.fed: list[tuple[int, ...]] = []
        self.prepared = False

    def prepare(self) -> None:
        self.prepared = True

    def decode(
        self, voice: tuple[int, ...], codes: tuple[int, ...], *, eager: bool = False
    ) -> NDArray[np.float32]:
        return self.stream(voice, eager=eager).feed(codes, last=True)

    def tokenize(self, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self.work()
        return VOICE.global_tokens, (1, 2, 3)

    def stream(self, voice: tuple[int, ...], *, eager: bool) -> ToyStream:
        return ToyStream(self, eager=eager)


class ToyStream:
    """A sentence's samples: every second token's if it is eager, else all with the last."""

    def __init__(self, codec: ToyCodec, *, eager: bool) -> None:
        self._codec = codec
        self._eager = eager
        self._held: list[int] = []
        self.wanted = 2 if eager else 1 << 62
        codec.fed = []

    def feed(self, codes: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        self._codec.work()
        self._codec.fed.append(tuple(codes))
        self._held += codes
        count = len(self._held) if last else len(self._held) // 2 * 2 if self._eager else 0
        now, self._held = self._held[:count], self._held[count:]
        return np.repeat(np.float32(now), 4)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(Sizes())


@pytest.fixture(scope="module")
def prompter(tokenizer: Tokenizer) -> Prompter:
    return Prompter(tokenizer, SIZES)


def codes(spoken: Iterator[Utterance]) -> list[tuple[int, ...]]:
    return [one.semantic_tokens for one in spoken]


# Which draws a sentence has


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("slots", [1, 2, 16])
def test_a_sentence_has_its_own_draws_whatever_the_slots(
    prompter: Prompter, slots: int, continues: bool
) -> None:
    """Its number in the job names them, also where the sentences are asked for in groups."""
    voice = replace(VOICE, transcript="Before.", semantic_tokens=(1,))
    engine = Engine(Parrot(), ToyCodec(), prompter, slots)
    seven = codes(engine.speak(["Again."] * 7, voice, TEN, continues=continues))
    assert len(set(seven)) == 7
    at_once = Engine(Parrot(), ToyCodec(), prompter, 7)
    assert seven == codes(at_once.speak(["Other."] * 7, voice, TEN))


def test_the_words_come_in_order_with_their_voice(prompter: Prompter) -> None:
    engine = Engine(Parrot(), ToyCodec(), prompter, 1)
    words = [f"Sentence {n}." for n in range(7)]
    spoken = list(engine.speak(words, VOICE, TEN))
    assert [one.text for one in spoken] == words
    for one in spoken:
        assert one.samples.tolist() == [code for code in one.semantic_tokens for _ in range(4)]


@pytest.mark.parametrize("eager", [False, True])
def test_each_sentence_may_have_its_own_voice(prompter: Prompter, eager: bool) -> None:
    """Each is what it would be where all had its voice, whoever speaks beside it."""
    voices = [
        VOICE,
        Voice((1, 2, 3, 4, 5), (7, 8), "Before."),
        Voice((5, 4, 3, 2, 1), style=Style(pitch_value=1, speed_value=2)),
        VOICE,
    ]
    words = [f"Sentence {n}." for n in range(4)]
    engine = Engine(Parrot(), ToyCodec(), prompter, 2)
    prompts: dict[str, tuple[int, ...]] = {}
    request = engine._request
    engine._request = lambda prompt, name, limit: (  # type: ignore[method-assign] # of this one alone
        prompts.update({name: prompt}) or request(prompt, name, limit)
    )

    def said(voice: Voice | list[Voice]) -> list[tuple[int, ...]]:
        pieces = list(engine.stream(words, voice, TEN, eager=eager))
        whole = [piece.utterance for piece in pieces if piece.utterance is not None]
        assert [one.text for one in whole] == words
        return [one.semantic_tokens for one in whole]

    together, mixed = said(voices), dict(prompts)
    for n, voice in enumerate(voices):
        assert said(voice)[n] == together[n]
        assert prompts[f"sentence {n}"] == mixed[f"sentence {n}"]
    with pytest.raises(ValueError, match="zip"):
        said(voices[:3])


def test_of_sentences_that_cannot_all_wait_none_does(prompter: Prompter) -> None:
    """Also where they have voices of different kinds, which join one after the other."""
    engine, _ = long_and_slow(prompter, slots=1)
    engine._scheduler._max_waiting = 1
    running = engine.speak(["One."], VOICE, LONG)
    with ThreadPoolExecutor(1) as thread:
        heard = thread.submit(next, running)
        until(lambda: occupancy(engine._scheduler) == (1, 0))
        with pytest.raises(BusyError):
            next(engine.speak(["One.", "Two."], [VOICE, replace(VOICE, transcript="A.")], LONG))
        until(lambda: occupancy(engine._scheduler) == (1, 0))
        for sequence in engine._scheduler._places.running:
            engine._scheduler.cancel(sequence)
        with pytest.raises(JobCancelledError):
            heard.result(20)


def test_nothing_to_say_is_nothing(prompter: Prompter) -> None:
    engine = Engine(Parrot(), ToyCodec(), prompter)
    assert list(engine.speak([], VOICE, TEN)) == []
    assert list(engine.stream([], VOICE, TEN)) == []


def test_an_answer_tells_of_its_wait_and_its_company(prompter: Prompter) -> None:
    engine = Engine(Parrot(before_step=lambda: time.sleep(0.001)), ToyCodec(), prompter, 2)
    never = replace(TEN, min_tokens=10)
    first, second, third = engine.speak(["One.", "Two.", "Three."], VOICE, never)
    assert (first.occupancy, second.occupancy, third.occupancy) == (2, 2, 1)
    assert third.queue_seconds > first.queue_seconds
    assert third.queue_seconds > 0.008  # nine steps of those before


# How an answer ends


@pytest.mark.parametrize(
    "voice", [VOICE, replace(VOICE, transcript="Before.", semantic_tokens=(1,))]
)
def test_an_answer_is_never_empty(prompter: Prompter, voice: Voice) -> None:
    """Even of a model that would rather say nothing."""
    silent = Parrot(liked=frozenset({prompter.end_id}))
    (spoken,) = Engine(silent, ToyCodec(), prompter).speak(["Hello."], voice, TEN)
    assert len(spoken.semantic_tokens) == 1
    assert spoken.complete
    opening = 0 if voice.transcript else 1
    assert spoken.tokens == opening + 1 + 1  # the end is one that was made


def test_an_answer_has_its_least_length(prompter: Prompter) -> None:
    silent = Parrot(liked=frozenset({prompter.end_id}))
    sampling = replace(TEN, min_tokens=6)
    (spoken,) = Engine(silent, ToyCodec(), prompter).speak(["Hello."], VOICE, sampling)
    assert (len(spoken.semantic_tokens), spoken.tokens, spoken.complete) == (5, 7, True)


def test_an_answer_that_does_not_end_is_cut(prompter: Prompter, tokenizer: Tokenizer) -> None:
    seven = int(tokenizer.token_to_id("<|bicodec_semantic_7|>"))
    engine = Engine(Parrot(liked=frozenset({seven})), ToyCodec(), prompter)
    (spoken,) = engine.speak(["Hello."], VOICE, TEN)
    assert (spoken.semantic_tokens, spoken.tokens, spoken.complete) == ((7,) * 9, 10, False)


# Voices by style


@pytest.mark.parametrize(("pitch", "speed"), [(0, 0), (1000, 10), (0, None), (None, 0)])
def test_a_given_pitch_and_speed_are_kept(
    prompter: Prompter, pitch: int | None, speed: int | None
) -> None:
    style = Style("male", "high", "low", pitch_value=pitch, speed_value=speed)
    designed = Engine(Parrot(), ToyCodec(), prompter).design(style, "Hello.", TEN)
    found = designed.voice.style
    assert found is not None
    assert pitch in {None, found.pitch_value}
    assert speed in {None, found.speed_value}
    assert (found.gender, found.pitch, found.speed) == ("male", "high", "low")
    assert designed.tokens == 5 + 5  # the opening and the voice
    assert all(0 <= token < 16 for token in designed.voice.global_tokens)


def test_a_designed_voice_comes_from_the_seed(prompter: Prompter) -> None:
    engine = Engine(Parrot(), ToyCodec(), prompter)
    voices = [engine.design(Style(), "Hello.", replace(TEN, seed=seed)).voice for seed in (1, 1, 2)]
    assert voices[0] == voices[1] != voices[2]


# References


def test_a_reference_keeps_its_transcript(prompter: Prompter) -> None:
    engine = Engine(Parrot(), ToyCodec(), prompter)
    assert engine.listen(Path("any"), "Hello.") == Voice(VOICE.global_tokens, (1, 2, 3), "Hello.")
    assert engine.listen(Path("any")) == Voice(VOICE.global_tokens, (1, 2, 3))


@pytest.mark.parametrize(
    ("voice", "said"),
    [
        (Voice((0, 15, 0, 15, 0), (0, 95)), None),
        (Voice((1,) * 4), "it has 4 global tokens, not 5"),
        (Voice((1,) * 6), "it has 6 global tokens, not 5"),
        (Voice((1, 1, 16, 1, 1)), "it has a global token outside 0..15"),
        (Voice((1, 1, -1, 1, 1)), "it has a global token outside 0..15"),
        (Voice((1,) * 5, (5, 96)), "it has a semantic token outside 0..95"),
        (Voice((1,) * 5, (-1, 5)), "it has a semantic token outside 0..95"),
    ],
)
def test_a_voice_of_another_model_is_told(
    prompter: Prompter, voice: Voice, said: str | None
) -> None:
    assert Engine(Parrot(), ToyCodec(), prompter).why_unusable(voice) == said


@pytest.mark.parametrize(
    ("room", "limit", "made"),
    [
        (200, 100, 100),
        (100, 100, 100),
        (99, 100, 99),  # cut at the room that there is
        (64, 100, 64),
        (63, 100, None),
        (63, 64, None),
        (63, 63, 63),  # little, but enough
        (20, 10, 10),
    ],
)
def test_a_long_reference_leaves_what_room_there_is(
    prompter: Prompter, room: int, limit: int, made: int | None
) -> None:
    taken = len(prompter.speech_prompt("Hello.", VOICE))
    config = replace(CONFIG, max_position_embeddings=taken + room)
    never = frozenset(range(2000)) - {prompter.end_id}
    engine = Engine(Parrot(liked=never, config=config), ToyCodec(), prompter, 1)
    sampling = replace(TEN, max_tokens=limit)
    if made is None:
        with pytest.raises(SynthesisError, match=f"is {taken} tokens long.* of {taken + room}; us"):
            next(engine.speak(["Hello."], VOICE, sampling))
    else:
        (spoken,) = engine.speak(["Hello."], VOICE, sampling)
        assert spoken.tokens == made
        assert not spoken.complete


def test_a_sentence_has_12288_positions_at_most(prompter: Prompter) -> None:
    config = replace(CONFIG, max_position_embeddings=32_768)
    engine = Engine(Parrot(config=config), ToyCodec(), prompter, 1)
    long = replace(VOICE, transcript="Hello.", semantic_tokens=(1,) * 12_288)
    with pytest.raises(SynthesisError, match="no room of 12288"):
        next(engine.speak(["Hello."], long, replace(TEN, max_tokens=100)))


# Giving up


def long_and_slow(prompter: Prompter, slots: int = 16) -> tuple[Engine, Parrot]:
    """An engine whose sentences take half a minute."""
    never = frozenset(range(2000)) - {prompter.end_id}
    config = replace(CONFIG, max_position_embeddings=10_000)
    parrot = Parrot(never, lambda: time.sleep(0.003), config)
    return Engine(parrot, ToyCodec(), prompter, slots), parrot


LONG = replace(TEN, max_tokens=9_000)


def test_what_is_closed_frees_its_rows(prompter: Prompter) -> None:
    engine, parrot = long_and_slow(prompter)
    pieces = engine.stream(["One.", "Two.", "Three."], VOICE, LONG)
    first = next(pieces)
    assert (first.sentence, first.utterance) == (0, None)
    assert len(first.samples)
    until(lambda: occupancy(engine._scheduler) == (2, 0))  # it, and the one that is next
    pieces.close()
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    assert parrot.steps < 5_000


def test_a_cancelled_job_leaves_the_batch(prompter: Prompter) -> None:
    engine, parrot = long_and_slow(prompter, slots=2)
    cancellation = Cancellation()
    parrot.before_step = lambda: cancellation.cancel() if parrot.steps == 3 else None
    with pytest.raises(JobCancelledError):
        list(engine.speak(["One."] * 3, VOICE, LONG, cancellation=cancellation))
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    assert parrot.steps < 100


def test_a_job_that_was_cancelled_before_does_nothing(prompter: Prompter) -> None:
    def never() -> None:
        raise AssertionError

    engine = Engine(Parrot(before_step=never), ToyCodec(never), prompter)
    cancelled = Cancellation()
    cancelled.cancel()
    for call in (
        lambda: engine.listen(Path("any"), None, cancelled),
        lambda: engine.design(Style(), "Hello.", TEN, cancelled),
        lambda: next(engine.speak(["Hello."], VOICE, TEN, cancellation=cancelled)),
        lambda: next(engine.stream(["Hello."], VOICE, TEN, cancellation=cancelled)),
    ):
        with pytest.raises(JobCancelledError):
            call()
    assert occupancy(engine._scheduler) == (0, 0)


def test_no_more_run_than_there_are_slots(prompter: Prompter) -> None:
    engine, _ = long_and_slow(prompter, slots=2)
    assert engine.slots == 2
    pieces = [engine.stream(["One.", "Two."], VOICE, LONG) for _ in range(2)]
    next(pieces[0])
    until(lambda: occupancy(engine._scheduler) == (2, 0))
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(next, pieces[1])
        until(lambda: occupancy(engine._scheduler) == (2, 1))
        pieces[0].close()
        assert len(asked.result(20).samples)
    pieces[1].close()


def test_a_stream_runs_what_is_heard_and_what_is_next(prompter: Prompter) -> None:
    """The next is not begun before something is heard, and is in time all the same."""
    parrot = Parrot(frozenset(range(2000)) - {prompter.end_id})
    engine, submitted = Engine(parrot, ToyCodec(), prompter), []
    submit = engine._scheduler.submit

    def noted(requests: Sequence[SequenceRequest], *given: Any, **more: Any) -> Any:
        submitted.extend(request.name for request in requests)
        return submit(requests, *given, **more)

    engine._scheduler.submit = noted
    begun: dict[int, list[str]] = {}
    for piece in engine.stream(["One."] * 4, VOICE, TEN):
        begun.setdefault(piece.sentence, list(submitted))
    names = [f"sentence {number}" for number in range(4)]
    assert begun == {0: names[:2], 1: names[:3], 2: names, 3: names}
    submitted.clear()
    assert len(list(engine.speak(["One."] * 4, VOICE, TEN))) == 4
    assert submitted == names


def test_a_next_sentence_is_needed_when_the_one_before_is_all_drawn(prompter: Prompter) -> None:
    engine, _ = long_and_slow(prompter)
    now = time.perf_counter()
    pieces = engine.stream(["One.", "Two."], VOICE, LONG)
    next(pieces)
    until(lambda: occupancy(engine._scheduler) == (2, 0))
    heard, following = engine._scheduler._places.running
    assert heard.due < now + 10
    assert following.due > time.perf_counter() + 5
    heard.finish()
    assert following.due == heard.due
    pieces.close()
    (made,) = engine._submit([("One.", VOICE)], 0, engine_module._Job(LONG, None, None))
    assert made.sequence.due == float("inf")  # nobody listens
    engine._scheduler.cancel(made.sequence)


def test_a_stream_whose_sentences_continue_has_each_after_the_other(prompter: Prompter) -> None:
    voice = replace(VOICE, transcript="Before.", semantic_tokens=(1,))
    engine = Engine(Parrot(), ToyCodec(), prompter)
    pieces = list(engine.stream(["One.", "Two."], voice, TEN, continues=True))
    heard = [piece.utterance.semantic_tokens for piece in pieces if piece.utterance]
    assert heard == codes(engine.speak(["One.", "Two."], voice, TEN, continues=True))


def test_of_sentences_that_come_one_by_one_the_next_is_needed_when_its_turn_is(
    prompter: Prompter,
) -> None:
    engine, _ = long_and_slow(prompter)
    cancellation = Cancellation()
    begin = engine.one_by_one(LONG, cancellation)
    next(begin("One.", 0, VOICE))
    begin("Two.", 1, VOICE)
    until(lambda: occupancy(engine._scheduler) == (2, 0))
    heard, following = engine._scheduler._places.running
    assert heard.job is following.job
    assert following.due > heard.due + 5
    heard.finish()
    assert following.due == heard.due
    cancellation.cancel()
    until(lambda: occupancy(engine._scheduler) == (0, 0))


def test_of_sentences_that_come_one_by_one_none_is_kept_that_has_ended(prompter: Prompter) -> None:
    engine, cancellation = Engine(Parrot(), ToyCodec(), prompter), Cancellation()
    submit, made = engine._scheduler.submit, []

    def noted(*given: Any, **more: Any) -> Any:
        sequences = submit(*given, **more)
        made.extend(map(weakref.ref, sequences))
        return sequences

    engine._scheduler.submit = noted
    begin = engine.one_by_one(TEN, cancellation)
    for index in range(8):
        assert list(begin("One.", index, VOICE))
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    until(lambda: not any(sequence() for sequence in made[:-2]))
    cancellation.cancel()


# Memory and turns


class Short:
    """Fails so many times for want of memory."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self) -> None:
        if self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_what_does_not_fit_is_done_once_more(prompter: Prompter) -> None:
    short = Short(1)
    engine = Engine(Parrot(), ToyCodec(short), prompter)
    expected = codes(Engine(Parrot(), ToyCodec(), prompter).speak(["One.", "Two."], VOICE, TEN))
    assert codes(engine.speak(["One.", "Two."], VOICE, TEN)) == expected
    short.times = 1
    pieces = list(engine.stream(["One.", "Two."], VOICE, TEN))
    assert codes(piece.utterance for piece in pieces if piece.utterance) == expected
    short.times = 1
    assert engine.listen(Path("any")).global_tokens == VOICE.global_tokens
    assert short.times == 0


def test_what_does_not_fit_alone_fails_its_job_and_frees_its_rows(prompter: Prompter) -> None:
    short = Short(2)
    engine = Engine(Parrot(), ToyCodec(short), prompter, 1)
    with pytest.raises(MemoryShortError, match="the audio of a sentence"):
        list(engine.speak(["One.", "Two.", "Three."], VOICE, TEN))
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    short.times = 2
    with pytest.raises(MemoryShortError, match="the reference audio"):
        engine.listen(Path("any"))
    assert len(list(engine.speak(["One."], VOICE, TEN))) == 1


@pytest.mark.parametrize("way", ["speak", "stream"])
def test_codec_and_model_take_turns_on_a_cpu(prompter: Prompter, way: str) -> None:
    at_work: list[bool] = []
    met: list[bool] = []

    def work() -> None:
        at_work.append(True)
        time.sleep(0.003)
        at_work.clear()

    parrot = Parrot(before_step=lambda: met.append(bool(at_work)))
    engine = Engine(parrot, ToyCodec(work), prompter, 1)
    assert list(getattr(engine, way)(["One."] * 6, VOICE, TEN))
    assert met
    assert not any(met)


# Streams


def test_a_stream_gives_what_is_final_and_the_whole_at_last(prompter: Prompter) -> None:
    never = frozenset(range(2000)) - {prompter.end_id}
    codec = ToyCodec()
    engine = Engine(Parrot(never), codec, prompter, 1)
    sampling = replace(TEN, max_tokens=40)
    pieces: list[Piece] = list(engine.stream(["One."], VOICE, sampling))
    (whole,) = engine.speak(["One."], VOICE, sampling)
    assert [piece.sentence for piece in pieces] == [0] * len(pieces)
    assert [piece.utterance is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    joined = np.concatenate([piece.samples for piece in pieces])
    assert joined.tolist() == whole.samples.tolist()
    last = pieces[-1].utterance
    assert last is not None
    assert last.samples.tolist() == whole.samples.tolist()
    assert (last.semantic_tokens, last.tokens) == (whole.semantic_tokens, whole.tokens)
    assert tuple(code for part in codec.fed for code in part) == whole.semantic_tokens


def test_the_second_sentence_of_a_stream_is_counted_1(prompter: Prompter) -> None:
    pieces = list(Engine(Parrot(), ToyCodec(), prompter, 1).stream(["A.", "B.", "C."], VOICE, TEN))
    assert sorted({piece.sentence for piece in pieces}) == [0, 1, 2]
    ends = [(piece.sentence, piece.utterance.text) for piece in pieces if piece.utterance]
    assert ends == [(0, "A."), (1, "B."), (2, "C.")]


def test_sentences_that_come_one_by_one_are_those_of_a_stream(prompter: Prompter) -> None:
    never = frozenset(range(2000)) - {prompter.end_id}
    engine = Engine(Parrot(never), ToyCodec(), prompter, 3)
    together = list(engine.stream(["A.", "B.", "C."], VOICE, TEN))
    begin = engine.one_by_one(TEN)
    begun = [begin(text, index, VOICE) for index, text in enumerate(["A.", "B.", "C."])]
    for index, pieces in enumerate(begun):
        mine = list(pieces)
        theirs = [piece for piece in together if piece.sentence == index]
        assert {piece.sentence for piece in mine} == {index}
        assert mine[-1].utterance is not None
        assert [piece.utterance for piece in mine[:-1]] == [None] * (len(mine) - 1)
        samples = [np.concatenate([piece.samples for piece in part]) for part in (mine, theirs)]
        assert samples[0].tolist() == samples[1].tolist()


def test_sentences_that_come_one_by_one_are_in_the_batch_at_once(prompter: Prompter) -> None:
    engine, parrot = long_and_slow(prompter)
    cancellation = Cancellation()
    begin = engine.one_by_one(LONG, cancellation)
    for index in range(2):
        begin("One.", index, VOICE)
    until(lambda: occupancy(engine._scheduler) == (2, 0))
    cancellation.cancel()
    until(lambda: occupancy(engine._scheduler) == (0, 0))
    assert parrot.steps < 5_000
    with pytest.raises(JobCancelledError):
        begin("One.", 2, VOICE)


def test_the_codecs_time_is_its_own(prompter: Prompter) -> None:
    never = frozenset(range(2000)) - {prompter.end_id}
    codec = ToyCodec(lambda: time.sleep(0.002))
    engine = Engine(Parrot(never, lambda: time.sleep(0.004)), codec, prompter, 1)
    begun = time.perf_counter()
    *_, last = engine.stream(["One."], VOICE, replace(TEN, max_tokens=40))
    taken = time.perf_counter() - begun
    assert last.utterance is not None
    assert 0.002 * len(codec.fed) <= last.utterance.codec_seconds < taken
    (whole,) = engine.speak(["One."], VOICE, TEN)
    assert whole.codec_seconds >= 0.002


@pytest.mark.parametrize("eager", [False, True])
def test_speech_without_a_token_of_the_codec_is_an_error(prompter: Prompter, eager: bool) -> None:
    """The one token that the sentence may have opens it."""
    engine = Engine(Parrot(), ToyCodec(), prompter, 1)
    with pytest.raises(SynthesisError, match="raise max_length"):
        list(engine.stream(["One."], VOICE, replace(TEN, max_tokens=1), eager=eager))


def test_a_voice_that_is_none_of_the_codecs_frees_its_rows(prompter: Prompter) -> None:
    engine, _ = long_and_slow(prompter)

    def refuse(voice: tuple[int, ...], *, eager: bool) -> ToyStream:
        raise SynthesisError("no such voice")

    engine._codec.stream = refuse
    with pytest.raises(SynthesisError, match="no such voice"):
        next(engine.stream(["One.", "Two."], VOICE, LONG))
    until(lambda: occupancy(engine._scheduler) == (0, 0))


# Before the first job


def test_what_is_prepared_need_not_be_made_for_the_first_job(prompter: Prompter) -> None:
    parrot = Parrot()
    engine = Engine(parrot, ToyCodec(), prompter)
    assert parrot.heads == 0
    engine.prepare()
    made = parrot.heads
    assert made > 0
    list(engine.speak(["One."], VOICE, TEN))
    list(engine.speak(["One."], replace(VOICE, transcript="x", semantic_tokens=(1,)), TEN))
    assert parrot.heads == made


def test_the_trial_speaks_a_little(prompter: Prompter) -> None:
    spoken = Engine(Parrot(), ToyCodec(), prompter).try_out()
    assert 1 <= len(spoken.semantic_tokens) <= 3
    assert len(spoken.samples) == 4 * len(spoken.semantic_tokens)


def test_the_rate_is_the_codecs(prompter: Prompter) -> None:
    assert Engine(Parrot(), ToyCodec(), prompter).sample_rate == 16_000


# A GPU by its numbers


def test_without_a_gpu_there_is_no_memory_to_tell_of(prompter: Prompter) -> None:
    assert Engine(Parrot(), ToyCodec(), prompter).free_memory() is None


def test_what_torch_keeps_for_reuse_is_free(
    prompter: Prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = ToyCodec()
    engine = Engine(Parrot(), codec, prompter)
    codec.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 500)
    assert engine.free_memory() == 0.3


PUBLISHED = LMConfig(166_000, 896, 4864, 24, 14, 2, 32_768, 1e-6, 1e6, True)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("free", "slots"),
    [
        (40 << 30, 64),
        (288 * 64 * MIB, 64),
        (288 * 64 * MIB - 1, 63),
        (288 * 8 * MIB, 8),
        (288 * 7 * MIB, 6),  # from here on a GiB stays for the jobs
        (1024 * MIB + 144 * MIB, 1),
        (288 * MIB, 1),
        (0, 1),
    ],
)
def test_half_of_a_gpus_free_memory_is_for_the_rows(
    monkeypatch: pytest.MonkeyPatch, free: int, slots: int
) -> None:
    """A row of the published model: 24 layers x 2 x 2 heads x 64 x 2 bytes x 12,288 = 144 MiB."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 80 << 30))
    assert engine_module._slots(published(torch.bfloat16)) == slots


def published(dtype: torch.dtype, config: LMConfig = PUBLISHED, device: str = "cuda") -> Parrot:
    """Stands for the published model on torch's kernels: what is asked of it, before it runs."""
    decoder = Parrot(config=config)
    decoder.dtype, decoder.device = dtype, torch.device(device)
    return decoder


def test_rows_of_float32_are_half_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (288 * 24 * MIB, 80 << 30))
    assert engine_module._slots(published(torch.float32)) == 12


def test_a_model_of_fewer_positions_has_smaller_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(PUBLISHED, max_position_embeddings=6_144)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (288 * 10 * MIB, 80 << 30))
    assert engine_module._slots(published(torch.bfloat16, short)) == 20


def test_a_cpu_speaks_16_sentences_at_once() -> None:
    assert engine_module._slots(published(torch.bfloat16, device="cpu")) == 16


class OnPages(FusedLanguageModel):
    """Stands for the published model on kernels of its own: what is asked of it, before it runs."""

    device = torch.device("cuda")

    def __init__(self) -> None:
        self.config = PUBLISHED
        self.pages_of_row = None


@pytest.mark.parametrize(
    ("free", "slots", "pages"),
    [
        (10 << 30, 128, 53),  # a card of 16 GB: as many as ever, of 3,392 positions each
        (18 << 30, 128, 96),  # one of 24 GB
        (40 << 30, 128, 213),  # more than a row can have
        (2 * 64 * 9 * MIB, 14, 12),  # from here on a GiB stays for the jobs
        (2 << 30, 113, 12),
        (1024 * MIB + 18 * MIB, 2, 12),
        (0, 1, 12),
    ],
)
def test_pages_for_ordinary_sentences_decide_how_many_run_at_once(
    monkeypatch: pytest.MonkeyPatch, free: int, slots: int, pages: int
) -> None:
    """A page of the published model: 24 layers x 2 x 2 heads x 64 x 64 x 2 bytes = 0.75 MiB."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 80 << 30))
    lm = OnPages()
    assert engine_module._slots(lm) == slots
    assert lm.pages_of_row == pages


# Loading


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, prompter: Prompter) -> list[tuple[object, ...]]:
    """What is loaded, from where: nothing is."""
    seen: list[tuple[object, ...]] = []

    def lm(folder: Path, precision: torch.dtype, _device: torch.device) -> Parrot:
        seen.append(("lm", folder, precision))
        return Parrot()

    def int8(folder: Path, kernel: object, weights: object) -> Parrot:
        seen.append(("int8", folder, weights))
        return Parrot()

    def codec(
        checkpoint: Checkpoint,
        _upstream: object,
        _device: object,
        dtype: torch.dtype,
        look_ahead: int,
        published: Checkpoint,
    ) -> ToyCodec:
        seen.append(("codec", checkpoint.folder, published.folder, dtype, look_ahead))
        return ToyCodec()

    monkeypatch.setattr(LanguageModel, "load", lm)
    monkeypatch.setattr(Int8LanguageModel, "load", int8)
    monkeypatch.setattr(Codec, "load", codec)
    monkeypatch.setattr(Prompter, "load", lambda _path, _sizes: prompter)
    monkeypatch.setattr(engine_module, "find_upstream", lambda: None)
    monkeypatch.setattr(Checkpoint, "check", lambda self: seen.append(("check", self.folder)))
    monkeypatch.setattr(LMConfig, "read", lambda _path: CONFIG)
    monkeypatch.setattr(loading, "why_unsupported", lambda _config: None)
    monkeypatch.setattr(LmKernel, "open", lambda _threads: "kernel")
    monkeypatch.setattr(cpu_info, "flags", lambda: {"avx512_bf16"})
    return seen


@pytest.mark.parametrize(
    ("asked", "there", "used"),
    [(None, False, "cpu"), (None, True, "cuda"), ("cpu", True, "cpu")],
)
def test_the_gpu_is_used_where_there_is_one_and_no_other_device_is_asked_for(
    loads: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    asked: str | None,
    there: bool,
    used: str,
) -> None:
    devices = []

    def load(_folder: Path, _precision: torch.dtype, device: torch.device) -> Parrot:
        devices.append(device)
        return Parrot()

    monkeypatch.setattr(LanguageModel, "load", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(engine_module, "_slots", lambda lm: 3 if isinstance(lm, Parrot) else 0)
    engine = Engine.load(tmp_path, "float32", asked)
    assert devices == [torch.device(used)]
    assert engine.slots == 3


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(
    ("dtype", "kernel", "kind", "precision", "wave"),
    [
        ("float32", True, "lm", torch.float32, torch.float32),
        ("bfloat16", True, "lm", torch.bfloat16, torch.bfloat16),
        ("int8", True, "int8", "weights", torch.bfloat16),
        ("auto", True, "int8", "weights", torch.bfloat16),
        ("auto", False, "lm", torch.bfloat16, torch.bfloat16),
    ],
)
def test_what_is_loaded_from_where(
    loads: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    prepared: bool,
    dtype: str,
    kernel: bool,
    kind: str,
    precision: object,
    wave: torch.dtype,
) -> None:
    """The prepared language model is rounded to bfloat16: float32 is not read from it."""
    used = tmp_path / PREPARED if prepared else tmp_path
    used.mkdir(exist_ok=True)
    if not kernel:
        monkeypatch.setattr(LmKernel, "open", lambda _threads: None)
    Engine.load(tmp_path, dtype, "cpu", int8_weights=lambda: "weights", look_ahead=7)
    model = tmp_path if precision is torch.float32 else used
    assert loads == [
        ("check", used),
        ("codec", used, tmp_path, wave, 7),
        (kind, model / "LLM", precision),
    ]


def test_without_bfloat16_a_cpu_takes_float32(
    loads: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(LmKernel, "open", lambda _threads: None)
    monkeypatch.setattr(cpu_info, "flags", frozenset)
    (tmp_path / PREPARED).mkdir()
    Engine.load(tmp_path, "auto", "cpu")
    assert loads[-1] == ("lm", tmp_path / "LLM", torch.float32)


def test_int8_that_was_asked_for_is_not_given_up_in_silence(
    loads: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(LmKernel, "open", lambda _threads: None)
    with pytest.raises(SetupError, match="int8 cannot be had here"):
        Engine.load(tmp_path, "int8", "cpu")
    monkeypatch.setattr(LmKernel, "open", lambda _threads: "kernel")
    monkeypatch.setattr(loading, "why_unsupported", lambda _config: "its heads are too narrow")
    with pytest.raises(SetupError, match=r"\(its heads are too narrow\)"):
        Engine.load(tmp_path, "int8", "cpu")
    Engine.load(tmp_path, "auto", "cpu")
    assert loads[-1] == ("lm", tmp_path / "LLM", torch.bfloat16)


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_takes_bfloat16_where_it_has_it(
    loads: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    supported: bool,
) -> None:
    """The CPU beside it has nothing to say; and torch's emulation, which is slow, is none."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: supported or including_emulation,
    )
    monkeypatch.setattr(cpu_info, "flags", lambda: set() if supported else {"avx512_bf16"})
    loading.load_language_model(
        Checkpoint(tmp_path / PREPARED),
        Checkpoint(tmp_path),
        "auto",
        torch.device("cuda"),
        lambda: None,
    )
    expected = (
        ("lm", tmp_path / PREPARED / "LLM", torch.bfloat16)
        if supported
        else ("lm", tmp_path / "LLM", torch.float32)
    )
    assert loads == [expected]


# Lanes: work of a GPU, one after the other


def test_a_lanes_work_is_done_in_its_own_thread_and_order() -> None:
    lane, seen = Lane(CPU, "codec"), []
    first = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            first.wait(10)
        seen.append((number, threading.current_thread().name))
        return number

    with ThreadPoolExecutor(4) as threads:
        slow = threads.submit(lane.do, partial(work, 0))
        until(lambda: lane._thread._threads)
        rest = [threads.submit(lane.do, partial(work, number)) for number in (1, 2)]
        first.set()
        assert [one.result(10) for one in (slow, *rest)] == [0, 1, 2]
    assert seen[0][0] == 0
    assert {name for _number, name in seen} == {"codec_0"}


def test_what_fails_in_a_lane_fails_for_its_caller_alone() -> None:
    lane = Lane(CPU, "codec")

    def fail() -> None:
        raise MemoryShortError("no")

    with pytest.raises(MemoryShortError, match="no"):
        lane.do(fail)
    assert lane.do(lambda: 7) == 7


def test_on_a_gpu_listening_has_a_lane_and_the_codec_is_asked_by_all(
    prompter: Prompter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The GPU is a name here."""
    threads: list[str] = []
    codec = ToyCodec(lambda: threads.append(threading.current_thread().name))
    monkeypatch.setattr(device_module, "stream_on", lambda _device: None)
    codec.device = torch.device("cuda")
    engine = Engine(Parrot(), codec, prompter)
    engine.listen(tmp_path)
    list(engine.speak(["Yes."], VOICE, Sampling(max_tokens=4)))
    list(engine.stream(["Yes."], VOICE, Sampling(max_tokens=4)))
    assert threads[0] == "listening_0"
    assert set(threads[1:]) == {"MainThread"}


@pytest.mark.parametrize("short", [False, True])
def test_before_the_first_job_all_has_run_once(
    prompter: Prompter,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
    short: bool,
) -> None:
    """Prompts of each bucket, windows of all lengths that come again, a reference."""
    ran: list[tuple[str, int]] = []

    class Codec(ToyCodec):
        def decode(
            self, voice: tuple[int, ...], codes: tuple[int, ...], *, eager: bool = False
        ) -> NDArray[np.float32]:
            ran.append(("eager" if eager else "whole", len(codes)))
            if short:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().decode(voice, codes, eager=eager)

        def tokens_of(self, wav: NDArray[np.float32]) -> tuple[tuple[int, ...], tuple[int, ...]]:
            ran.append(("listen", len(wav)))
            return VOICE.global_tokens, (1, 2, 3)

    class Prompts(Parrot):
        def prefill(
            self, prompts: Sequence[Sequence[int]], cache: Cache, begins: Sequence[int] = ()
        ) -> Tensor:
            ran.extend(("prompt", len(prompt)) for prompt in prompts)
            return super().prefill(prompts, cache)

    codec = Codec()
    monkeypatch.setattr(device_module, "stream_on", lambda _device: None)
    codec.device = torch.device("cuda")
    engine = Engine(Prompts(), codec, prompter)
    codec.device = CPU
    engine.prepare()
    assert codec.prepared
    # With the opening; this model has no room for the buckets of 512 and 1,024.
    assert ran[:3] == [("prompt", length + 1) for length in (64, 128, 256)]
    if short:
        assert set(ran[3:]) == {("whole", 600)}  # and the worker starts all the same
        assert events.warnings() == [
            *["out of memory"] * 2,
            "warm-up cut short",
        ]
    else:
        assert ran[3:] == [("whole", 600), ("eager", 600), ("listen", 160_000)]
