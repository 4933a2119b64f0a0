"""Ours: `Engine`, held to a number of tokens by its own sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.voice import Style, Voice

STYLE = Style("female", "moderate", "moderate", pitch_value=200, speed_value=4)


def exactly(tokens: int, **more: Any) -> Sampling:
    """So many tokens in each answer."""
    return Sampling(max_tokens=tokens, min_tokens=tokens, **more)


class Ours:
    """The worker's engine."""

    def __init__(self, checkpoint: Path, dtype: str = "auto", device: str | None = None) -> None:
        self.engine = Engine.load(checkpoint, dtype, device)
        self.voice = Voice((0,) * self.engine._codec.sizes.voice_length, style=STYLE)
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

    def thread(self, number: int) -> ThreadPoolExecutor:
        """One thread, for a number always the same: a GPU's libraries plan anew for each thread."""
        while len(self._threads) <= number:
            self._threads.append(ThreadPoolExecutor(1, "job"))
        return self._threads[number]

    # What the engine does not show: its language model alone, and its codec alone.

    @property
    def kind(self) -> str:
        """The precision that its language model runs in."""
        weight = getattr(getattr(self.engine._lm, "norm", None), "weight", None)
        dtype = getattr(weight, "dtype", None)
        if type(self.engine._lm).__name__.startswith("Int8"):
            return "int8"
        return str(dtype).removeprefix("torch.")

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
        head = lm.head(torch.tensor(self.semantic_ids()))
        rows = [head(lm.prefill([prompt], cache))]
        for place, token in enumerate(answer[:-1], len(prompt)):
            at = torch.tensor([place], device=lm.device)
            rows.append(head(lm.step(torch.tensor([token]).to(at), at, cache, place + 1)))
        return torch.cat(rows).float().cpu().numpy()


class _Silence:
    """A stream whose samples cost nothing."""

    def __init__(self, hop: int) -> None:
        self._hop = hop

    def feed(self, codes: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        return np.zeros(len(codes) * self._hop, np.float32)
