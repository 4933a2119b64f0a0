"""One sentence's speech: semantic tokens in as they are made, samples out once they are final."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.errors import SynthesisError
from worker.speech.codec.chunked_network import ChunkedNetwork

WAVE_LENGTH = 256  # tokens in a chunk of the wave generator, its context included
# Tokens of new audio that a stream waits for at first; each later time for twice as many.
FIRST_STEP = 8


class SpeechStream:
    """Turns the semantic tokens of one sentence into samples, as they come.

    A sample depends on tokens after its own, so the first samples come when `look_ahead` tokens and
    FIRST_STEP more have been fed. One thread at a time feeds it. A call that fails has done
    nothing, and may be made again. However the tokens are shared out among calls, the chunks and so
    the samples are the same to the bit.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[int]], Tensor],
        stages: tuple[ChunkedNetwork, ChunkedNetwork],
        look_ahead: int,
        codes: int,
    ) -> None:
        """The networks, new ones for each sentence, and the number of semantic `codes`.

        `embed` maps tokens [n] to vectors [1, C, n]; the first stage maps these to features, the
        second one features to samples.
        """
        self._embed = embed
        self._stages = stages
        self._codes = codes
        self._waiting: list[int] = []
        self._step = look_ahead + FIRST_STEP
        self._next_step = FIRST_STEP

    def feed(self, semantic_tokens: Sequence[int]) -> NDArray[np.float32]:
        """Take the next tokens and give the next samples [n], none or more.

        Raises SynthesisError when a token is not one of the codec's.
        """
        check_semantic_tokens(semantic_tokens, self._codes)
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
        """Give the rest of the samples [n]: no token follows."""
        return self.run(self._waiting, last=True) if self._waiting else np.zeros(0, np.float32)

    def run(self, semantic_tokens: Sequence[int], *, last: bool) -> NDArray[np.float32]:
        """Take tokens as `feed`, at once and whatever their number; with `last`, the rest too."""
        with self._all_or_nothing():
            return self._run(semantic_tokens, last=last)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put the stages back to where they were when the block fails."""
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
        samples: list[NDArray[np.float32]] = []
        features = prenet.feed(self._embed(semantic_tokens), last=last)
        for i, some in enumerate(features):
            made = wave_generator.feed(some, last=last and i == len(features) - 1)
            samples.extend(chunk.flatten().cpu().numpy() for chunk in made)
        return np.concatenate(samples) if samples else np.zeros(0, np.float32)


def check_semantic_tokens(tokens: Sequence[int], codes: int) -> None:
    """Raise SynthesisError when a token is not one of the codec's."""
    if not all(0 <= token < codes for token in tokens):
        raise SynthesisError(f"speech needs semantic tokens below {codes}")
