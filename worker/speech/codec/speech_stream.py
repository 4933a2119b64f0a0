"""One sentence's speech: semantic tokens in as they are made, samples out once they are final.

Two kinds of the same: a `WholeStream` waits for the last token, and its samples are those of the
sentence at once; an eager one (eager_stream.py) is for who listens meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
NEVER = 1 << 62  # tokens that no sentence has
Stages = tuple[ChunkedNetwork, ...]  # each reads what the one before gives; the last, samples


class SpeechStream(ABC):
    """Turns the semantic tokens of one sentence into samples, as they come.

    One thread at a time feeds it. A call that fails has done nothing, and may be made again.
    However the tokens are shared out among calls, the samples are the same to the bit.
    """

    def __init__(self, codes: int) -> None:
        """Take tokens below `codes`."""
        self._codes = codes
        self._waiting: list[int] = []

    @property
    @abstractmethod
    def wanted(self) -> int:
        """How many tokens more must be fed before there are new samples, unless they are the last.

        To feed fewer is no fault, and gives nothing.
        """

    def feed(self, semantic_tokens: Sequence[int], *, last: bool = False) -> NDArray[np.float32]:
        """Take the next tokens and give the next samples [n]; after the `last` all that are left.

        Raises SynthesisError when a token is not one of the codec's.
        """
        if not all(0 <= token < self._codes for token in semantic_tokens):
            raise SynthesisError(f"speech needs semantic tokens below {self._codes}")
        return self._feed([*self._waiting, *semantic_tokens], last=last)

    @abstractmethod
    def _feed(self, waiting: list[int], *, last: bool) -> NDArray[np.float32]:
        """Make samples of these, and note what still waits then."""


class WholeStream(SpeechStream):
    """Gives all samples with the last token, from chunks as long as can be."""

    def __init__(
        self,
        embed: Callable[[Sequence[int]], Tensor],
        open_stages: Callable[[], Stages],
        codes: int,
    ) -> None:
        """Make a stream that waits for the last token.

        `embed` maps tokens [n], which are below `codes`, to what the first stage reads, [1, C, n].
        `open_stages` makes the networks of this sentence, when its tokens are there: nothing is
        computed before.
        """
        super().__init__(codes)
        self._embed = embed
        self._open_stages = open_stages

    @property
    def wanted(self) -> int:
        """More than any sentence has."""
        return NEVER - len(self._waiting)

    def _feed(self, waiting: list[int], *, last: bool) -> NDArray[np.float32]:
        samples = [np.zeros(0, np.float32)]
        if last and waiting:
            stages, left = self._open_stages(), waiting
            while left:
                part, left = left[:PRENET_LENGTH], left[PRENET_LENGTH:]
                samples.append(self._run(stages, part, last=not left))
        self._waiting = [] if last else waiting
        return np.concatenate(samples)

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
        return samples_of(chunks)


def samples_of(chunks: Sequence[Tensor]) -> NDArray[np.float32]:
    """Join chunks [1, 1, n] to samples on the host."""
    samples = [chunk.flatten().cpu().numpy() for chunk in chunks]
    return np.concatenate(samples) if samples else np.zeros(0, np.float32)


@contextmanager
def all_or_nothing(stage: ChunkedNetwork) -> Iterator[None]:
    """Put the network back to where it was when the block fails."""
    before = stage.mark()
    try:
        yield
    except BaseException:
        stage.go_back(before)
        raise
