"""All that the rest of the worker sees of the model: load it, make voices, speak.

Many threads may call one engine at once: their sentences share the language model's batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from volume.layout import PREPARED
from worker.cancellation import Cancellation
from worker.errors import MemoryShortError, SynthesisError
from worker.logs import log
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest, TokenSequence
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.device import Lane, empty_cache
from worker.speech.device_checks import FREE_BYTES
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import Grammar
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_weights import Weights
from worker.speech.lm.interface import Decoder
from worker.speech.lm.loading import load_language_model
from worker.speech.memory_retry import MemoryRetry
from worker.speech.prompt import Prompter
from worker.speech.voice import Style, Voice

T = TypeVar("T")
SLOTS = 16  # sentences at once on a CPU
MOST_SLOTS = 64  # on a GPU, memory permitting
WARM_PROMPTS = (64, 128, 256, 512, 1024)  # tokens
WARM_TOKENS = 600  # of speech: more than the longest window
WARM_SECONDS = 10  # of a reference
PIECE = 8  # tokens that a stream waits for at a time
POSITIONS = 12_288  # tokens of one sentence at most: 8,192 of speech, 4,096 of text and reference


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence."""

    text: str
    samples: NDArray[np.float32]  # mono [n], at the engine's sample rate
    semantic_tokens: tuple[int, ...]
    tokens: int  # that the language model made, the end token included
    complete: bool  # False: cut off at max_tokens
    codec_seconds: float  # time to turn the tokens into samples
    queue_seconds: float = 0.0  # that it waited for a place in the batch
    first_audio_seconds: float = 0.0  # from speak() to its first sample
    occupancy: float = 1.0  # rows that shared its batch on average, itself counted


@dataclass(frozen=True)
class Occupancy:
    """How full the engine is, in rows: sentences that are spoken at the same time."""

    running: int
    waiting: int
    slots: int  # that can run


@dataclass(frozen=True)
class Designed:
    """A voice that the model chose."""

    voice: Voice
    tokens: int  # that it took


@dataclass(frozen=True)
class Piece:
    """Some of a sentence's audio, as early as it is final."""

    sentence: int  # counts from 0
    samples: NDArray[np.float32]  # mono [n], maybe none, that follow on the piece before
    utterance: Utterance | None  # the whole sentence, with its last piece


class Engine:
    """A loaded model."""

    def __init__(self, lm: Decoder, codec: Codec, prompter: Prompter, slots: int = SLOTS) -> None:
        self._lm = lm
        self._codec = codec
        self._prompter = prompter
        # On a CPU the language model and the codec each use all cores: they take turns. A GPU
        # computes for both at once.
        self._turns = FairLock()
        on_gpu = codec.device.type == "cuda"
        self._speaking = Lane(codec.device, "codec") if on_gpu else None
        self._listening = Lane(codec.device, "listening") if on_gpu else None
        self._room = MemoryRetry()  # for the codec, in the memory that the language model leaves
        self._batcher = Scheduler(lm, slots, POSITIONS, turns=None if on_gpu else self._turns)

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: str = "auto",
        device: str | None = None,
        int8_weights: Callable[[], Weights | None] = lambda: None,
    ) -> Engine:
        """Everything from a checkpoint in the published layout.

        Where it has been prepared for fast loading, that is what is read; but a language model in
        float32 or int8 always comes from the published file, for the prepared one is rounded.

        `dtype` is that of the language model: float32, bfloat16, int8 (on CPUs with AVX512-VNNI)
        or auto: the fastest that the device has. `int8_weights` gives those that another thread
        has read meanwhile, if any. Raises SetupError when a file is missing or does not fit.
        """
        published = Checkpoint(folder)
        checkpoint = Checkpoint(folder / PREPARED) if (folder / PREPARED).is_dir() else published
        checkpoint.check()
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # A job that asks for float32 to the last bit has it in the codec too.
        wave = torch.float32 if dtype == "float32" else torch.bfloat16
        codec = Codec.load(checkpoint, find_upstream(), where, wave)
        lm = load_language_model(checkpoint, published, dtype, where, int8_weights)
        prompter = Prompter.load(checkpoint.language_model / "tokenizer.json", codec.sizes)
        engine = cls(lm, codec, prompter, _slots(lm.config, where, lm.dtype))
        engine.prepare()
        return engine

    @property
    def sample_rate(self) -> int:
        """Of all audio that the engine gives, in Hz."""
        return self._codec.audio.sample_rate

    def prepare(self) -> None:
        """Cut the heads that speech needs; on a GPU, capture its steps and warm up."""
        voice = self._prompter.some_voice()
        self._batcher.prepare(self._prompter.speech_plan(voice))
        if self._speaking is not None:
            try:
                self._warm_up(voice)
            except MemoryShortError as error:
                log.warning("not all is warm for the first job: %s", error)

    def _warm_up(self, voice: Voice) -> None:
        """Run what jobs run, at the lengths that come again: kernels are loaded and planned then.

        Prompts by bucket, a whole sentence and a streamed one longer than all windows, and a
        reference.
        """
        text = self._prompter.speech_prompt("Yes.", voice)
        plan = self._prompter.speech_plan(voice)
        for length in WARM_PROMPTS:
            prompt = (text * (length // len(text) + 1))[:length]
            if length + 2 <= self._batcher.positions:
                row = SequenceRequest(prompt, "warm-up", 2)
                (asked,) = self._batcher.submit([row], plan, Sampling(min_tokens=2))
                asked.answer()
        codes = (self._prompter.some_code(),) * WARM_TOKENS
        for work in (
            partial(self._codec.decode, voice.global_tokens, codes),
            partial(self._stream_whole, voice, codes),
        ):
            self._in_turn(work)
        rate = self._codec.audio.sample_rate
        noise = np.random.default_rng(0).normal(0, 0.1, WARM_SECONDS * rate)
        self._listened(partial(self._codec.tokens_of, noise), "a reference")

    def _stream_whole(self, voice: Voice, codes: Sequence[int]) -> NDArray[np.float32]:
        stream = self._codec.stream(voice.global_tokens)
        return np.concatenate([stream.feed(codes), stream.end()])

    def try_out(self) -> Utterance:
        """Speak a sound, in whatever voice: whether everything works, and to have run it once."""
        voice = self._prompter.some_voice()
        (spoken,) = self.speak(["Yes."], voice, Sampling(max_tokens=4, seed=1))
        return spoken

    def occupancy(self) -> Occupancy:
        """What runs and waits now."""
        running, waiting = self._batcher.occupancy()
        return Occupancy(running, waiting, self._batcher.slots)

    def free_memory(self) -> float | None:
        """Share of the GPU's memory that is free, 0 to 1; None without a GPU."""
        if self._codec.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._codec.device)
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by torch, for reuse
        return (free + kept) / total

    def listen(
        self, path: Path, transcript: str | None = None, cancellation: Cancellation | None = None
    ) -> Voice:
        """The voice in a checked audio file; with its transcript, its way of speaking too.

        Raises MemoryShortError where the memory does not suffice.
        """
        if cancellation is not None:
            cancellation.check()
        heard = self._listened(partial(self._codec.tokenize, path), "the reference audio")
        return Voice(*heard, transcript)

    def design(
        self,
        style: Style,
        text: str,
        sampling: Sampling,
        cancellation: Cancellation | None = None,
    ) -> Designed:
        """A voice of the style, as the model chooses it for this text: one for all sentences.

        Raises NotAvailableError when the model was not trained for it.
        """
        prompt = self._prompter.design_prompt(text, style)
        plan = self._prompter.design_plan(style)
        row = self._row(prompt, "voice", len(plan.steps))
        asked = self._submit([row], plan, replace(sampling, min_tokens=0), object(), cancellation)
        tokens = asked[0].answer().tokens
        return Designed(self._prompter.designed_voice(style, tokens), len(tokens))

    def check(self, voice: Voice) -> str | None:
        """Why this voice is none of this model, or None when it is one."""
        sizes = self._codec.sizes
        if len(voice.global_tokens) != sizes.voice_length:
            return f"it has {len(voice.global_tokens)} global tokens, not {sizes.voice_length}"
        if not all(0 <= token < sizes.global_codes for token in voice.global_tokens):
            return f"it has a global token outside 0..{sizes.global_codes - 1}"
        if not all(0 <= token < sizes.semantic_codes for token in voice.semantic_tokens):
            return f"it has a semantic token outside 0..{sizes.semantic_codes - 1}"
        return None

    def speak(
        self,
        sentences: Sequence[str],
        voice: Voice,
        sampling: Sampling,
        *,
        chain: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[Utterance]:
        """Speak the sentences, in order, each as it is ready.

        They run at the same time, beside those of other jobs; with `chain` each goes on from the
        one before (its text and tokens are the next one's transcript), so they run one after the
        other. Closing the iterator gives up what is not yet spoken. Raises JobCancelledError once
        `cancellation` is said, BusyError where too much waits, MemoryShortError where the memory
        does not suffice, DeviceError where the GPU fails.
        """
        begun = time.perf_counter()
        for spoken in self._spoken(sentences, voice, sampling, chain, cancellation):
            codes = self._prompter.semantic_codes(spoken.asked.answer().tokens)
            started = time.perf_counter()
            samples = self._in_turn(partial(self._codec.decode, spoken.voice.global_tokens, codes))
            now = time.perf_counter()
            yield self._utterance(spoken, samples, now - begun, now - started)

    def stream(
        self,
        sentences: Sequence[str],
        voice: Voice,
        sampling: Sampling,
        *,
        chain: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[Piece]:
        """As `speak`, but each sentence in pieces: its audio begins before its last token is drawn.

        The pieces of a sentence, one after the other, are its samples to within 1e-4 of full scale.
        """
        begun = time.perf_counter()
        spoken = self._spoken(sentences, voice, sampling, chain, cancellation)
        for index, sentence in enumerate(spoken):
            yield from self._pieces(index, sentence, begun)

    def _pieces(self, index: int, spoken: _Sentence, begun: float) -> Iterator[Piece]:
        # Made on the stream that uses it.
        decoder = self._in_turn(partial(self._codec.stream, spoken.voice.global_tokens))
        parts: list[NDArray[np.float32]] = []
        first_audio = codec_seconds = 0.0
        read, done = 0, False
        while not done:
            tokens, done = spoken.asked.wait(read + PIECE)
            new = tokens[read : len(tokens)]
            read += len(new)
            started = time.perf_counter()
            samples = self._in_turn(partial(decoder.feed, self._prompter.semantic_codes(new)))
            if done:
                samples = np.concatenate([samples, self._in_turn(decoder.end)])
            codec_seconds += time.perf_counter() - started
            if len(samples) and not parts:
                first_audio = time.perf_counter() - begun
            if len(samples):
                parts.append(samples)
            if len(samples) or done:
                yield Piece(
                    index,
                    samples,
                    self._utterance(spoken, np.concatenate(parts), first_audio, codec_seconds)
                    if done
                    else None,
                )

    def _spoken(
        self,
        sentences: Sequence[str],
        voice: Voice,
        sampling: Sampling,
        chain: bool,
        cancellation: Cancellation | None,
    ) -> Iterator[_Sentence]:
        """Each sentence in order, on its way through the batch."""
        job = object()  # one turn of the batch's queue
        ahead = 1 if chain else 2 * self._batcher.slots
        asked: deque[_Sentence] = deque()
        submitted = 0
        try:
            for index in range(len(sentences)):
                if index == submitted:
                    group = sentences[index : index + ahead]
                    asked += self._ask(group, index, voice, sampling, job, cancellation)
                    submitted += len(group)
                yield asked[0]
                done = asked.popleft()
                if chain:
                    codes = self._prompter.semantic_codes(done.asked.answer().tokens)
                    voice = replace(voice, transcript=done.text, semantic_tokens=codes)
        finally:
            for sentence in asked:
                self._batcher.cancel(sentence.asked)

    def _ask(
        self,
        group: Sequence[str],
        first: int,
        voice: Voice,
        sampling: Sampling,
        job: object,
        cancellation: Cancellation | None,
    ) -> list[_Sentence]:
        rows = [
            self._row(
                self._prompter.speech_prompt(text, voice), f"sentence {i}", sampling.max_tokens
            )
            for i, text in enumerate(group, first)
        ]
        plan = self._prompter.speech_plan(voice)
        asked = self._submit(rows, plan, sampling, job, cancellation)
        return [_Sentence(text, voice, one) for text, one in zip(group, asked, strict=True)]

    def _submit(
        self,
        rows: Sequence[SequenceRequest],
        plan: Grammar,
        sampling: Sampling,
        job: object,
        cancellation: Cancellation | None,
    ) -> list[TokenSequence]:
        if cancellation is not None:
            cancellation.check()
        return self._batcher.submit(rows, plan, sampling, job=job, cancellation=cancellation)

    def _row(self, prompt: tuple[int, ...], name: str, limit: int) -> SequenceRequest:
        room = self._batcher.positions - len(prompt)
        if room < limit and room < 64:
            raise SynthesisError(
                f"the sentence with its reference is {len(prompt)} tokens long and leaves the "
                f"model no room of {self._batcher.positions}; "
                "use a shorter reference or a shorter prompt_text"
            )
        return SequenceRequest(prompt, name, min(limit, room))

    def _utterance(
        self,
        spoken: _Sentence,
        samples: NDArray[np.float32],
        first_audio_seconds: float,
        codec_seconds: float,
    ) -> Utterance:
        answered = spoken.asked.answer()
        return Utterance(
            text=spoken.text,
            samples=samples,
            semantic_tokens=self._prompter.semantic_codes(answered.tokens),
            tokens=len(answered.tokens) + answered.ended,
            complete=answered.ended,
            codec_seconds=codec_seconds,
            queue_seconds=answered.queue_seconds,
            first_audio_seconds=first_audio_seconds,
            occupancy=answered.occupancy,
        )

    def _in_turn(self, work: Callable[[], T]) -> T:
        """What the codec makes in its turn on a CPU, on its lane on a GPU."""
        whole = partial(self._room.do, work, "the audio of a sentence")
        if self._speaking is not None:
            return self._speaking.do(whole)
        with self._turns:
            return whole()

    def _listened(self, work: Callable[[], T], what: str) -> T:
        whole = partial(self._room.do, work, what)
        return whole() if self._listening is None else self._listening.do(whole)


@dataclass(frozen=True)
class _Sentence:
    """A sentence on its way through the batch."""

    text: str
    voice: Voice
    asked: TokenSequence


def _slots(config: LMConfig, device: torch.device, dtype: torch.dtype) -> int:
    """How many sentences run at once: on a GPU, as many as half of its free memory can hold.

    On a small one fewer, so that what jobs need beside the model stays free.
    """
    if device.type != "cuda":
        return SLOTS
    empty_cache()  # what was read and is no longer needed counts as taken else
    free, _total = torch.cuda.mem_get_info(device)
    positions = min(POSITIONS, config.max_position_embeddings)
    channels = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim
    row = channels * positions * dtype.itemsize
    return max(1, min(MOST_SLOTS, min(free // 2, free - FREE_BYTES) // row))
