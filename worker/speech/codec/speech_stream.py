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

PRENET_LENGTH = 512  # tokens in a chunk of the prenet, its context included
WAVE_LENGTH = 256  # tokens in a chunk of the wave generator, its context included
# Tokens of new audio that an eager stream waits for at first; each later time for twice as many.
FIRST_STEP = 8
NEVER = 1 << 62  # tokens that no sentence has
Stages = tuple[ChunkedNetwork, ...]  # each reads what the one before gives; the last, samples


class SpeechStream:
    """Turns the semantic tokens of one sentence into samples, as they come.

    An eager one gives samples as soon as they are final: a sample depends on tokens after its own,
    so the first come when `look_ahead` tokens and FIRST_STEP more have been fed. Its first chunks
    are short and mostly context, which costs a sentence of five seconds two to four times the work.
    Any other gives all samples with the last tokens, from chunks as long as can be.

    One thread at a time feeds it. A call that fails has done nothing, and may be made again.
    However the tokens are shared out among calls, the chunks and so the samples are the same to
    the bit.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[int]], Tensor],
        open_stages: Callable[[], Stages],
        codes: int,
        look_ahead: int | None,
    ) -> None:
        """Make a stream that waits for `look_ahead` tokens, or for the last one where it is None.

        `embed` maps tokens [n], which are below `codes`, to what the first stage reads, [1, C, n].
        `open_stages` makes the networks of this sentence, when its first tokens are fed: nothing is
        computed before.
        """
        self._embed = embed
        self._open_stages = open_stages
        self._stages: Stages | None = None
        self._codes = codes
        self._waiting: list[int] = []
        self._step = NEVER if look_ahead is None else look_ahead + FIRST_STEP
        self._next_step = FIRST_STEP

    @property
    def wanted(self) -> int:
        """How many tokens more must be fed before there are new samples, unless they are the last.

        To feed fewer is no fault, and gives nothing.
        """
        return self._step - len(self._waiting)

    def feed(self, semantic_tokens: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        """Take the next tokens and give the next samples [n]; after the `last` all that are left.

        Raises SynthesisError when a token is not one of the codec's.
        """
        if not all(0 <= token < self._codes for token in semantic_tokens):
            raise SynthesisError(f"speech needs semantic tokens below {self._codes}")
        waiting, step, next_step = [*self._waiting, *semantic_tokens], self._step, self._next_step
        samples = [np.zeros(0, np.float32)]
        with self._all_or_nothing() as stages:
            while len(waiting) >= step:
                # One stays, for it may be the sentence's last.
                samples.append(self._run(stages, waiting[: step - 1], last=False))
                waiting = waiting[step - 1 :]
                step = next_step = min(2 * next_step, WAVE_LENGTH)
            while last and waiting:
                part, waiting = waiting[:PRENET_LENGTH], waiting[PRENET_LENGTH:]
                samples.append(self._run(stages, part, last=not waiting))
        self._waiting, self._step, self._next_step = waiting, step, next_step
        return np.concatenate(samples)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[Stages]:
        """Give the stages, and put them back to where they were when the block fails."""
        if self._stages is None:
            self._stages = self._open_stages()
        before = [stage.mark() for stage in self._stages]
        try:
            yield self._stages
        except BaseException:
            for stage, mark in zip(self._stages, before, strict=True):
                stage.go_back(mark)
            raise

    @torch.inference_mode()
    def _run(
        self, stages: Stages, semantic_tokens: Sequence[int], *, last: bool
    ) -> NDArray[np.float32]:
        chunks = [self._embed(semantic_tokens)]
        for stage in stages:
            fed = [
                stage.feed(chunk, last=last and i == len(chunks) - 1)
                for i, chunk in enumerate(chunks)
            ]
            chunks = [made for some in fed for made in some]
        samples = [chunk.flatten().cpu().numpy() for chunk in chunks]
        return np.concatenate(samples) if samples else np.zeros(0, np.float32)
