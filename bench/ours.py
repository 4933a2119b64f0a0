"""Ours: `Engine`, held to a number of tokens by its own sampling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.playback import Heard
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.voice import Style, Voice

STYLE = Style("female", "moderate", "moderate", pitch_value=200, speed_value=4)


def exactly(tokens: int, **more: Any) -> Sampling:
    """So many tokens in each answer."""
    return Sampling(max_tokens=tokens, min_tokens=tokens, **more)


def load(
    folder: Path, dtype: str = "auto", device: str | None = None, fused: bool = True
) -> Engine:
    """The engine, `fused` or not where it can be told; else as it is."""
    return Engine.load(folder, dtype, device, **({"fused": fused} if has_fused() else {}))


def has_fused() -> bool:
    """Whether the engine can be told to use fused kernels or not."""
    return "fused" in signature(Engine.load).parameters


class Ours:
    """The worker's engine."""

    def __init__(
        self,
        checkpoint: Path,
        dtype: str = "auto",
        device: str | None = None,
        *,
        fused: bool = True,
    ) -> None:
        self.engine = load(checkpoint, dtype, device, fused)
        self.voice = Voice((0,) * self.engine._codec.sizes.voice_length, style=STYLE)
        self._hop = self.engine._codec.audio.hop  # samples of a token
        self._threads: list[ThreadPoolExecutor] = []

    def speak(
        self, sentences: Sequence[str], tokens: int, voice: Voice | None = None, **sampling: Any
    ) -> list[Utterance]:
        """One job: all its sentences, of `tokens` tokens each."""
        asked = exactly(tokens, **sampling)
        spoken = list(self.engine.speak(sentences, voice or self.voice, asked))
        for one in spoken:
            if len(one.semantic_tokens) != tokens or len(one.samples) != tokens * 320:
                raise RuntimeError(f"{len(one.semantic_tokens)} tokens, {len(one.samples)} samples")
        return spoken

    def jobs(self, sentences: Sequence[str], tokens: int) -> list[Utterance]:
        """A job for each sentence, all at once."""
        jobs = [
            self.thread(number).submit(self.speak, [text], tokens)
            for number, text in enumerate(sentences)
        ]
        return [utterance for job in jobs for utterance in job.result()]

    def streams(
        self, texts: Sequence[str], tokens: int, spread: float = 0.0, seed: int = 0
    ) -> list[Heard]:
        """Eager streams of one sentence each, all to their end, as their clients hear them.

        They are asked for at the same time, or evenly within `spread` seconds. Raises RuntimeError
        where one has not all its samples.
        """
        ready = threading.Barrier(len(texts) + 1)

        def hear(number: int, text: str) -> Heard:
            ready.wait()
            time.sleep(spread * number / len(texts))
            heard = Heard(time.perf_counter())
            for piece in self.engine.stream([text], self.voice, exactly(tokens, seed=seed)):
                heard.add(time.perf_counter(), len(piece.samples) / self.engine.sample_rate)
            if round(heard.audio * self.engine.sample_rate) != tokens * self._hop:
                raise RuntimeError(f"the stream gave {heard.audio} s of {tokens} tokens")
            return heard

        asked = [self.thread(i).submit(hear, i, text) for i, text in enumerate(texts)]
        ready.wait()
        return [one.result() for one in asked]

    def thread(self, number: int) -> ThreadPoolExecutor:
        """One thread, for a number always the same: a GPU's libraries plan anew for each thread."""
        while len(self._threads) <= number:
            self._threads.append(ThreadPoolExecutor(1, "job"))
        return self._threads[number]

    # What the engine does not show: its language model alone, and its codec alone.

    @property
    def kind(self) -> str:
        """The precision that its language model runs in."""
        lm = self.engine._lm
        if type(lm).__name__.startswith("Int8") or getattr(lm, "in_int8", False):
            return "int8"
        return str(lm.dtype).removeprefix("torch.")

    @contextmanager
    def without_codec(self) -> Iterator[None]:
        """Silence in place of the codec's work: what is left is the language model's."""
        codec = self.engine._codec
        codec.stream = lambda voice, *, eager: _Silence(codec.audio.hop)
        try:
            yield
        finally:
            del codec.stream

    def decode(self, codes: Sequence[int]) -> NDArray[np.float32]:
        """The codec's waveform of codes."""
        work = partial(self.engine._codec.decode, self.voice.global_tokens, tuple(codes))
        return self.engine._runner.decode(work)

    def prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of the prompt of a sentence."""
        return self.engine._prompter.speech_prompt(text, self.voice)

    def semantic_ids(self) -> list[int]:
        """Token ids of the codec's codes, in their order."""
        return list(self.engine._prompter._semantic)

    @torch.inference_mode()
    def logits(self, prompt: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
        """Of the semantic tokens, before each token of the answer: [len(answer), codes]."""
        lm = self.engine._lm
        cache = lm.new_cache(1, len(prompt) + len(answer))
        cache.reserve(0, len(prompt) + len(answer))
        cache.flush()
        head = lm.head(torch.tensor(self.semantic_ids()))
        rows = [head(lm.prefill([prompt], cache))]
        for place, token in enumerate(answer[:-1], len(prompt)):
            at = torch.tensor([place], device=lm.device)
            rows.append(head(lm.step(torch.tensor([token]).to(at), at, cache, place + 1)))
        return torch.cat(rows).float().cpu().numpy()


class _Silence:
    """A stream whose samples cost nothing."""

    wanted = 8  # tokens

    def __init__(self, hop: int) -> None:
        self._hop = hop

    def feed(self, codes: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        return np.zeros(len(codes) * self._hop, np.float32)
