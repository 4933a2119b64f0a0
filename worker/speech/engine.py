"""All that the rest of the worker sees of the model: load it, make voices, speak.

Many threads may call one engine at once: their sentences share the language model's batch. Speech
has one way through it, whoever asks:

    submit    the sentences join the batch (batch/scheduler.py), each a sequence of tokens
    decode    a sentence's tokens become audio, piece by piece or as a whole (codec/)
    give      each piece as it is final, and the whole sentence with its last piece
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.cancellation import Cancellation
from worker.errors import NotAvailableError, SynthesisError
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest, TokenSequence
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec_runner import CodecRunner
from worker.speech.device import empty_cache
from worker.speech.device_checks import FREE_BYTES
from worker.speech.fair_lock import FairLock
from worker.speech.listener import NEVER, Listener
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.int8_weights import Weights
from worker.speech.lm.interface import Decoder
from worker.speech.lm.loading import load_language_model
from worker.speech.lm.paged_cache import page_bytes
from worker.speech.prompt import Prompter
from worker.speech.voice import Style, Voice
from worker.speech.warm_up import warm_up

SLOTS = 16  # sentences at once on a CPU
MOST_SLOTS = 64  # on a GPU, memory permitting
MOST_FUSED_SLOTS = 128  # where rows are kept in pages
POSITIONS = 12_288  # tokens of one sentence at most: 8,192 of speech, 4,096 of text and reference
ORDINARY_PAGES = 12  # of 64 tokens: what a sentence that is not unusually long takes of them
LATER = 10.0  # seconds: not soon; when a listener's next sentence is needed while this one is drawn
LEAST_ANSWER = 64  # positions that prompts leave, so that an answer is worth beginning


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence."""

    text: str
    samples: NDArray[np.float32]  # mono [n], at the engine's sample rate
    semantic_tokens: tuple[int, ...]
    tokens: int  # that the language model made, the end token included
    complete: bool  # False: cut off at max_tokens
    codec_seconds: float  # time to turn the tokens into samples
    queue_seconds: float = 0.0  # that it waited for a slot of the batch
    occupancy: float = 1.0  # sentences that shared its batch on average, itself counted


@dataclass(frozen=True)
class Piece:
    """Some of a sentence's audio, as early as it is final."""

    sentence: int  # counts from 0
    samples: NDArray[np.float32]  # mono [n], maybe none, that follow on the piece before
    utterance: Utterance | None  # the whole sentence, with its last piece


_Said = tuple[str, Voice]  # the text of a sentence, and who says it
# Text, index and voice of a sentence -> its pieces.
Begin = Callable[[str, int, Voice], Generator[Piece, None, None]]


@dataclass(frozen=True)
class DesignedVoice:
    """A voice that the model chose."""

    voice: Voice
    tokens: int  # that it took


class Engine:
    """A loaded model."""

    def __init__(self, lm: Decoder, codec: Codec, prompter: Prompter, slots: int = SLOTS) -> None:
        self._lm = lm
        self._codec = codec
        self._prompter = prompter
        lock = FairLock()
        self._runner = CodecRunner(codec.device, lock)
        self._scheduler = Scheduler(
            lm, slots, POSITIONS, lock=None if self._runner.on_gpu else lock
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: str = "auto",
        device: str | None = None,
        int8_weights: Callable[[], Weights | None] = lambda: None,
        *,
        fused: bool = True,
        look_ahead: int | None = None,
    ) -> Engine:
        """Load everything from a checkpoint in the published layout, and prepare it.

        Where it has been prepared for fast loading, that is what is read; but what computes in
        float32 comes from the published files, where the prepared ones are rounded.

        `dtype` is that of the language model: float32, bfloat16, int8 (on CPUs with AVX512-VNNI,
        and on GPUs that have the worker's own kernels) or auto: int8 where a CPU can, else the
        fastest of the others that the device has. `int8_weights` gives those of a CPU that another
        thread has read meanwhile, if any. Without `fused` the language model runs torch's kernels
        alone on a GPU. `look_ahead` is the codec's for eager streams, in tokens; by default it is a
        share of its reach. Raises SetupError when a file is missing or does not fit.
        """
        published = Checkpoint(folder)
        checkpoint = Checkpoint.to_load(folder)
        checkpoint.check()
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # A job that asks for float32 to the last bit has it in the codec too.
        wave = torch.float32 if dtype == "float32" else torch.bfloat16
        codec = Codec.load(checkpoint, find_upstream(), where, wave, look_ahead, published)
        lm = load_language_model(checkpoint, published, dtype, where, int8_weights, fused=fused)
        prompter = Prompter.load(checkpoint.language_model / "tokenizer.json", codec.sizes)
        engine = cls(lm, codec, prompter, _slots(lm))
        engine.prepare()
        return engine

    def prepare(self) -> None:
        """Cut the output heads that speech needs; on a GPU, capture its steps and warm up."""
        self._scheduler.prepare(self._prompter.speech_grammar(self._prompter.some_voice()))
        if self._runner.on_gpu:
            self._codec.prepare()
            warm_up(self._scheduler, self._codec, self._runner, self._prompter)

    def try_out(self) -> Utterance:
        """Speak a sound, in whatever voice: whether everything works, and to have run it once."""
        voice = self._prompter.some_voice()
        (spoken,) = self.speak(["Yes."], voice, Sampling(max_tokens=4, seed=1))
        return spoken

    # What it is and has

    @property
    def sample_rate(self) -> int:
        """The sample rate of all audio that the engine gives, in Hz."""
        return self._codec.audio.sample_rate

    @property
    def slots(self) -> int:
        """Sentences that can be spoken at the same time."""
        return self._scheduler.slots

    def count(self) -> tuple[int, int]:
        """How many sentences are being spoken, and how many wait for a slot; from any thread."""
        return self._scheduler.count()

    def free_memory(self) -> float | None:
        """Share of the GPU's memory that is free, 0 to 1; None without a GPU."""
        if self._codec.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self._codec.device)
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by torch, for reuse
        return (free + kept) / total

    # Voices

    def listen(
        self, path: Path, transcript: str | None = None, cancellation: Cancellation | None = None
    ) -> Voice:
        """The voice in a checked audio file; with its transcript, its way of speaking too.

        Raises MemoryShortError where the memory does not suffice.
        """
        if cancellation is not None:
            cancellation.check()
        work = partial(self._codec.tokenize, path)
        global_tokens, semantic_tokens = self._runner.listen(work, "the reference audio")
        return Voice(global_tokens, semantic_tokens, transcript)

    @property
    def designs(self) -> bool:
        """Whether the model was trained to design voices."""
        try:
            self._prompter.design_prompt("Yes.", Style())
        except NotAvailableError:
            return False
        return True

    def design(
        self,
        style: Style,
        text: str,
        sampling: Sampling,
        cancellation: Cancellation | None = None,
    ) -> DesignedVoice:
        """A voice of the style, as the model chooses it for this text: one for all sentences.

        Raises NotAvailableError when the model was not trained for it.
        """
        if cancellation is not None:
            cancellation.check()
        prompt = self._prompter.design_prompt(text, style)
        grammar = self._prompter.design_grammar(style)
        (sequence,) = self._scheduler.submit(
            [self._request(prompt, "voice", len(grammar.steps))],
            grammar,
            replace(sampling, min_tokens=0),
            job=object(),
            cancellation=cancellation,
        )
        tokens = sequence.answer().tokens
        return DesignedVoice(self._prompter.designed_voice(style, tokens), len(tokens))

    def why_unusable(self, voice: Voice) -> str | None:
        """Why this voice is none of this model's; None when it is one."""
        return voice.why_unusable(self._codec.sizes)

    # Speech

    def speak(
        self,
        sentences: Sequence[str],
        voice: Voice | Sequence[Voice],
        sampling: Sampling,
        *,
        continues: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Generator[Utterance, None, None]:
        """Speak the sentences, in order, each as it is ready: `stream` for who wants it whole.

        That costs the codec less than an eager stream: a half to a quarter for 5 s of speech.
        """
        pieces = self.stream(
            sentences,
            voice,
            sampling,
            continues=continues,
            eager=False,
            cancellation=cancellation,
        )
        with closing(pieces):
            for piece in pieces:
                if piece.utterance is not None:
                    yield piece.utterance

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
        """Speak the sentences, in order, each in pieces that follow on each other.

        `voice` is that of all sentences, or there is one for each: its neighbours' voices change
        nothing about a sentence.

        The sentences run at the same time, beside those of other jobs, of an `eager` one the
        sentence that is heard and the next; where each `continues` the one before (whose text and
        tokens are the next one's transcript), all with one voice, they run one after the other. An
        `eager` one gives a sentence's first samples before its last token is drawn; any other gives
        each sentence as one piece. An eager one's samples differ from those by what the codec's
        look-ahead leaves out (codec/eager_stream.py): 40 dB below the speech or less.

        Closing the iterator gives up what is not yet spoken. Raises JobCancelledError once
        `cancellation` is said, BusyError where too much waits, MemoryShortError where the memory
        does not suffice, DeviceError where the GPU fails.
        """
        job = _Job(sampling, cancellation, Listener(self.sample_rate) if eager else None)
        voices = [voice] * len(sentences) if isinstance(voice, Voice) else voice
        said = list(zip(sentences, voices, strict=True))
        if job.listener is not None and not continues:
            yield from self._heard(said, job, job.listener)
            return
        submitted = self._submitted(said, job, continues=continues)
        with closing(submitted):
            for index, sentence in enumerate(submitted):
                yield from self._pieces(index, sentence, job.listener)

    def _heard(
        self, said: Sequence[_Said], job: _Job, listener: Listener
    ) -> Generator[Piece, None, None]:
        """The pieces of one who listens: the sentence that is heard and the next one run.

        The next one is not begun before something of this one is heard, and is needed when all of
        this one is.
        """
        running: list[_Sentence] = []
        try:
            for index in range(len(said)):
                if not running:
                    running += self._submit(said[index : index + 1], index, job)
                (sentence,), following = running, index + 1
                for piece in self._pieces(index, sentence, listener):
                    if len(running) == 1 and following < len(said):
                        group = said[following : following + 1]
                        running += self._submit(group, following, job, sentence.sequence)
                    yield piece
                running.pop(0)
        finally:
            for sentence in running:
                self._scheduler.cancel(sentence.sequence)

    def one_by_one(self, sampling: Sampling, cancellation: Cancellation | None = None) -> Begin:
        """For sentences that are not known together: a function that begins the next one.

        It is called with a text, its index and its voice, puts the sentence into the batch at once
        and gives its pieces; they are those that sentence `index` of an eager `stream` has.
        `cancellation` alone gives up what is not yet spoken.
        """
        job: _Job | None = None
        before: TokenSequence | None = None

        def begin(text: str, index: int, voice: Voice) -> Generator[Piece, None, None]:
            nonlocal job, before
            # Who listens waits from the first text on.
            job = job or _Job(sampling, cancellation, Listener(self.sample_rate))
            (sentence,) = self._submit([(text, voice)], index, job, before)
            before = sentence.sequence
            return self._pieces(index, sentence, job.listener)

        return begin

    def _submitted(
        self, said: Sequence[_Said], job: _Job, *, continues: bool
    ) -> Generator[_Sentence, None, None]:
        """Each sentence in order, on its way through the batch."""
        ahead = 1 if continues else 2 * self.slots
        waiting: deque[_Sentence] = deque()
        count = 0
        before: Voice | None = None  # of the sentence that the next one continues from
        try:
            for index in range(len(said)):
                if index == count:
                    group = said[index : index + ahead]
                    if before is not None:
                        group = [(text, before) for text, _ in group]
                    waiting += self._submit(group, index, job)
                    count += len(group)
                yield waiting[0]
                done = waiting.popleft()
                if continues:
                    codes = self._prompter.semantic_codes(done.sequence.answer().tokens)
                    before = replace(done.voice, transcript=done.text, semantic_tokens=codes)
        finally:
            for sentence in waiting:
                self._scheduler.cancel(sentence.sequence)

    def _submit(
        self, said: Sequence[_Said], first: int, job: _Job, before: TokenSequence | None = None
    ) -> list[_Sentence]:
        """Put sentences, the first of them number `first` of the job, into the batch's queue.

        Nobody needs them until the one `before` has ended. All join, or none.
        """
        if job.cancellation is not None:
            job.cancellation.check()
        requests = [
            self._request(
                self._prompter.speech_prompt(text, voice), f"sentence {i}", job.sampling.max_tokens
            )
            for i, (text, voice) in enumerate(said, first)
        ]
        grammars = [self._prompter.speech_grammar(voice) for _, voice in said]
        sequences: list[TokenSequence] = []
        try:
            # Those of one grammar that follow on each other join together.
            for grammar, group in groupby(range(len(said)), key=grammars.__getitem__):
                sequences += self._scheduler.submit(
                    [requests[number] for number in group],
                    grammar,
                    job.sampling,
                    job=job,
                    cancellation=job.cancellation,
                    needed=partial(job.due, None if before is None else weakref.ref(before)),
                )
        except BaseException:
            for sequence in sequences:
                self._scheduler.cancel(sequence)
            raise
        return [
            _Sentence(text, sequence, voice)
            for (text, voice), sequence in zip(said, sequences, strict=True)
        ]

    def _request(self, prompt: tuple[int, ...], name: str, limit: int) -> SequenceRequest:
        room = self._scheduler.positions - len(prompt)
        if room < limit and room < LEAST_ANSWER:
            raise SynthesisError(
                f"the sentence with its reference is {len(prompt)} tokens long and leaves the "
                f"model no room of {self._scheduler.positions}; "
                "use a shorter reference or a shorter prompt_text"
            )
        return SequenceRequest(prompt, name, min(limit, room))

    def _pieces(
        self, index: int, sentence: _Sentence, listener: Listener | None
    ) -> Generator[Piece, None, None]:
        """The sentence's audio as its tokens come; without a listener, as a whole."""
        eager = listener is not None
        decoder = self._codec.stream(sentence.voice.global_tokens, eager=eager)
        parts: list[NDArray[np.float32]] = []
        codec_seconds = 0.0
        read, done = 0, False
        while not done:
            tokens, done = sentence.sequence.wait(read + decoder.wanted)
            new = tokens[read : len(tokens)]
            read += len(new)
            codes = self._prompter.semantic_codes(new)
            started = time.perf_counter()
            due = NEVER if listener is None else listener.due
            samples = self._runner.decode(partial(decoder.feed, codes, last=done), due)
            codec_seconds += time.perf_counter() - started
            parts.append(samples)
            if listener is not None:
                listener.hear(len(samples))
            if done:
                whole = self._utterance(sentence, np.concatenate(parts), codec_seconds)
                yield Piece(index, samples, whole)
            elif len(samples):
                yield Piece(index, samples, None)

    def _utterance(
        self, sentence: _Sentence, samples: NDArray[np.float32], codec_seconds: float
    ) -> Utterance:
        answer = sentence.sequence.answer()
        codes = self._prompter.semantic_codes(answer.tokens)
        if not codes:
            raise SynthesisError("the model made no speech of a sentence; raise max_length")
        return Utterance(
            text=sentence.text,
            samples=samples,
            semantic_tokens=codes,
            tokens=len(answer.tokens) + answer.ended,
            complete=answer.ended,
            codec_seconds=codec_seconds,
            queue_seconds=answer.queue_seconds,
            occupancy=answer.occupancy,
        )


@dataclass(frozen=True, eq=False)
class _Job:
    """What the sentences of one call share; in the batch's queue, whose they are."""

    sampling: Sampling
    cancellation: Cancellation | None
    listener: Listener | None

    def due(self, before: weakref.ref[TokenSequence] | None) -> float:
        """When a sentence should run that follows on the one `before`, if any.

        One that nobody holds has ended. Held here, the last sentence would keep all of its job.
        """
        if self.listener is None:
            return NEVER
        former = None if before is None else before()
        if former is not None and not former.done:
            return time.perf_counter() + LATER
        return self.listener.due


@dataclass(frozen=True)
class _Sentence:
    """A sentence on its way through the batch."""

    text: str
    sequence: TokenSequence
    voice: Voice


def _slots(lm: Decoder) -> int:
    """How many sentences run at once: on a GPU, as many as half of its free memory can hold.

    On a small one fewer, so that what jobs need beside the model stays free. A cache in pages is
    given its number of them.
    """
    if lm.device.type != "cuda":
        return SLOTS
    empty_cache()  # else what was read and is no longer needed counts as taken
    free, _total = torch.cuda.mem_get_info(lm.device)
    room = min(free // 2, free - FREE_BYTES)
    positions = min(POSITIONS, lm.config.max_position_embeddings)
    if isinstance(lm, FusedLanguageModel):
        pages = room // page_bytes(lm.config)
        slots = max(1, min(MOST_FUSED_SLOTS, pages // ORDINARY_PAGES))
        lm.pages_of_row = max(ORDINARY_PAGES, pages // slots)
        return slots
    c = lm.config
    channels = c.num_hidden_layers * 2 * c.num_key_value_heads * c.head_dim
    slot = channels * positions * lm.dtype.itemsize
    return max(1, min(MOST_SLOTS, room // slot))
