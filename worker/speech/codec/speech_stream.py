"""One sentence: semantic tokens in as they are made, samples out as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from worker.speech.codec.codec import Codec

WAVE_LENGTH = 256  # tokens in a window of the wave generator, its context included
FIRST_STEP = (
    8  # tokens of new audio that a stream waits for at first; later twice as many each time
)


class SpeechStream:
    """One sentence: semantic tokens in as they are made, samples out as soon as they are final.

    A sample depends on `Codec.look_ahead` tokens after its own, so the first samples come when
    that many tokens and FIRST_STEP more have been fed. One thread at a time feeds it. A call that
    fails has done nothing, and may be made again. However the tokens are shared out among calls,
    the windows and so the samples are the same to the bit.
    """

    def __init__(self, codec: Codec, condition: Tensor) -> None:
        """`condition` is the voice, [1, C]."""
        self._codec = codec
        self._stages = codec._prenet(condition), codec._wave_generator()  # noqa: SLF001 - its other half
        self._waiting: list[int] = []
        self._step = codec.look_ahead + FIRST_STEP
        self._next_step = FIRST_STEP

    def feed(self, semantic_tokens: Sequence[int]) -> NDArray[np.float32]:
        """The next tokens -> the next samples [n], none or more.

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
        self._waiting, self._step, self._next_step = waiting, step, next_step
        return np.concatenate(samples)

    def end(self) -> NDArray[np.float32]:
        """No token follows: the rest of the samples [n]."""
        return self.run(self._waiting, last=True) if self._waiting else np.zeros(0, np.float32)

    def run(self, semantic_tokens: Sequence[int], *, last: bool) -> NDArray[np.float32]:
        """As `feed`, at once and whatever their number, and nothing held back if `last`."""
        with self._all_or_nothing():
            return self._run(semantic_tokens, last=last)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
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
