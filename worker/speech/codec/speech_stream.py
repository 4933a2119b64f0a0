"""One sentence: semantic tokens in as they are made, samples out as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worker.speech.codec.chunked_network import ChunkedNetwork
    from worker.speech.codec.codec import Codec

PRENET_LENGTH = 512  # tokens in a window of the prenet, its context included
WAVE_LENGTH = 256  # the same of the wave generator
# Tokens of new audio that an eager stream waits for at first; later twice as many each time.
FIRST_STEP = 8
NEVER = 1 << 62  # tokens that no sentence has


class SpeechStream:
    """Decodes one sentence: semantic tokens in as they are made, samples out.

    An eager one gives samples as soon as they are final: a sample depends on `Codec.look_ahead`
    tokens after its own, so the first come when that many tokens and FIRST_STEP more have been fed.
    Its first windows are short and mostly context, which costs a sentence of five seconds two to
    three times the work. Any other gives all samples with the last tokens, from windows as long as
    can be.

    One thread at a time feeds it. A call that fails has done nothing, and may be made again.
    However the tokens are shared out among calls, the windows and so the samples are the same to
    the bit.
    """

    def __init__(self, codec: Codec, global_tokens: tuple[int, ...], *, eager: bool) -> None:
        """`global_tokens` are the voice; nothing is computed before tokens are fed."""
        self._codec = codec
        self._global_tokens = global_tokens
        self._stages: tuple[ChunkedNetwork, ...] = ()  # none before the first tokens
        self._waiting: list[int] = []
        self._step = codec.look_ahead + FIRST_STEP if eager else NEVER
        self._next_step = FIRST_STEP

    def feed(self, semantic_tokens: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        """The next tokens -> the next samples [n], none or more; all that are left after the last.

        Raises SynthesisError when a token is not one of the codec's.
        """
        self._codec._check(semantic_tokens)  # noqa: SLF001 - its other half
        waiting, step, next_step = [*self._waiting, *semantic_tokens], self._step, self._next_step
        samples = [np.zeros(0, np.float32)]
        with self._all_or_nothing():
            while len(waiting) >= step:
                # One stays, for it may be the sentence's last.
                samples.append(self._run(waiting[: step - 1], last=False))
                waiting = waiting[step - 1 :]
                step = next_step = min(2 * next_step, WAVE_LENGTH)
            while last and waiting:
                part, waiting = waiting[:PRENET_LENGTH], waiting[PRENET_LENGTH:]
                samples.append(self._run(part, last=not waiting))
        self._waiting, self._step, self._next_step = waiting, step, next_step
        return np.concatenate(samples)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        if not self._stages:
            self._stages = self._codec._stages(self._global_tokens)  # noqa: SLF001 - its other half
        before = [stage.mark() for stage in self._stages]
        try:
            yield
        except BaseException:
            for stage, mark in zip(self._stages, before, strict=True):
                stage.go_back(mark)
            raise

    @torch.inference_mode()
    def _run(self, semantic_tokens: Sequence[int], *, last: bool) -> NDArray[np.float32]:
        prenet, wave_generator = self._stages
        vectors = self._codec._latents(semantic_tokens)  # noqa: SLF001 - its other half
        samples: list[NDArray[np.float32]] = []
        parts = prenet.feed(vectors, last=last)
        for i, part in enumerate(parts):
            made = wave_generator.feed(part, last=last and i == len(parts) - 1)
            samples.extend(piece.flatten().cpu().numpy() for piece in made)
        return np.concatenate(samples) if samples else np.zeros(0, np.float32)
