"""All that the rest of the worker sees of the model: load it, make voices, speak."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from volume.layout import PREPARED
from worker.cancellation import Cancellation
from worker.errors import SynthesisError
from worker.speech.batcher import Answer, Plan, Row, answer
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec import Codec
from worker.speech.lm import LanguageModel
from worker.speech.prompt import Prompter, Voice
from worker.speech.sampling import Sampling
from worker.speech.upstream import find_upstream
from worker.style import Style

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence."""

    text: str
    samples: NDArray[np.float32]  # mono [n], at the engine's sample rate
    semantic_tokens: tuple[int, ...]
    tokens: int  # that the language model made, the end token included
    complete: bool  # False: cut off at max_tokens
    strayed: int  # steps where the model's favourite token was outside its answer grammar
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
    strayed: int


class Engine:
    """A loaded model. One call at a time uses it; others wait."""

    def __init__(
        self, lm: LanguageModel, codec: Codec, prompter: Prompter, max_rows: int = 16
    ) -> None:
        self._lm = lm
        self._codec = codec
        self._prompter = prompter
        self._max_rows = max_rows
        self._lock = Lock()

    @classmethod
    def load(cls, folder: Path, dtype: str = "auto", device: str | None = None) -> Engine:
        """Everything from a checkpoint in the published layout, then one short warm-up.

        Where it has been prepared for fast loading, that is what is read; but a float32 language
        model always comes from the published file, for the prepared one is rounded.

        `dtype` is that of the language model: float32, bfloat16 or auto (bfloat16 on a GPU that
        has it). Raises SetupError when a file is missing or does not fit.
        """
        published = Checkpoint(folder)
        checkpoint = Checkpoint(folder / PREPARED) if (folder / PREPARED).is_dir() else published
        checkpoint.check()
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        precision = _dtype(dtype, where)
        decoder = checkpoint if precision is torch.bfloat16 else published
        codec = Codec.load(checkpoint, find_upstream(), where)
        engine = cls(
            lm=LanguageModel.load(decoder.language_model, precision, where),
            codec=codec,
            prompter=Prompter.load(checkpoint.language_model / "tokenizer.json", codec.sizes),
        )
        engine.warm_up()
        return engine

    @property
    def sample_rate(self) -> int:
        """Of all audio that the engine gives, in Hz."""
        return self._codec.audio.sample_rate

    def warm_up(self) -> None:
        """Run every part once, so that the first job does not pay for it."""
        voice = Voice(global_tokens=(0,) * self._codec.sizes.voice_length)
        self._codec.decode(voice.global_tokens, (0,) * 8)
        prompt = (self._prompter.end_id,) * 8
        plan = Plan(steps=(frozenset({self._prompter.end_id}),) * 2)
        answer(self._lm, [Row(prompt, "warm-up", 2)], plan, Sampling())

    def occupancy(self) -> Occupancy:
        """What runs and waits now."""
        return Occupancy(running=int(self._lock.locked()), waiting=0, slots=self._max_rows)

    def listen(
        self, path: Path, transcript: str | None = None, cancellation: Cancellation | None = None
    ) -> Voice:
        """The voice in a checked audio file; with its transcript, its way of speaking too."""
        if cancellation is not None:
            cancellation.check()
        with self._lock:
            global_tokens, semantic_tokens = self._codec.tokenize(path)
        return Voice(global_tokens, semantic_tokens, transcript)

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
        if cancellation is not None:
            cancellation.check()
        with self._lock:
            row = self._row(prompt, "voice", len(plan.steps))
            (answered,) = answer(self._lm, [row], plan, sampling)
        voice = self._prompter.designed_voice(style, answered.tokens)
        return Designed(voice, len(answered.tokens), answered.strayed)

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

        They run as one batch; with `chain` each goes on from the one before (its text and tokens
        are the next one's transcript), so they run one after the other.
        """
        step = 1 if chain else self._max_rows
        for start in range(0, len(sentences), step):
            group = sentences[start : start + step]
            if cancellation is not None:
                cancellation.check()
            with self._lock:
                answers = self._answers(group, voice, sampling, start)
            for text, answered in zip(group, answers, strict=True):
                utterance = self._utterance(text, voice, answered)
                yield utterance
                if chain:
                    voice = replace(
                        voice, transcript=text, semantic_tokens=utterance.semantic_tokens
                    )

    def _answers(
        self, group: Sequence[str], voice: Voice, sampling: Sampling, start: int
    ) -> list[Answer]:
        rows = [
            self._row(
                self._prompter.speech_prompt(text, voice),
                f"sentence {start + i}",
                sampling.max_tokens,
            )
            for i, text in enumerate(group)
        ]
        return answer(self._lm, rows, self._prompter.speech_plan(voice), sampling)

    def _row(self, prompt: tuple[int, ...], name: str, limit: int) -> Row:
        room = self._lm.config.max_position_embeddings - len(prompt)
        if room < limit and room < 64:
            raise SynthesisError(
                f"the sentence with its reference is {len(prompt)} tokens long and leaves the "
                f"model no room of {self._lm.config.max_position_embeddings}; "
                "use a shorter reference or a shorter prompt_text"
            )
        return Row(prompt, name, min(limit, room))

    def _utterance(self, text: str, voice: Voice, answered: Answer) -> Utterance:
        codes = self._prompter.semantic_codes(answered.tokens)
        started = time.perf_counter()
        with self._lock:
            samples = self._codec.decode(voice.global_tokens, codes)
        return Utterance(
            text=text,
            samples=samples,
            semantic_tokens=codes,
            tokens=len(answered.tokens) + answered.ended,
            complete=answered.ended,
            strayed=answered.strayed,
            codec_seconds=time.perf_counter() - started,
        )


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype by its name; auto is bfloat16 on a GPU that has it, else float32."""
    if name in DTYPES:
        return DTYPES[name]
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if on_gpu else torch.float32
