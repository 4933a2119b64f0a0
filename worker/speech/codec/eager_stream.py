"""A sentence for who listens meanwhile: pieces that come before all that they depend on is known.

A sample depends on tokens after its own, but on the far ones hardly. A piece is computed as if the
sentence ended with the tokens that there are, and given but for the last `look_ahead` of them. The
next one computes these again, with more behind them; where the two meet, what the first computed
beyond its end is faded into the second:

    tokens       |------------------------------------------------|
    a piece      [...... given ......|fade|..]                      up to here it has been drawn
    the next                         [fade ...... given ......|fade|..]

How much is lost by it, `python -m bench.look_ahead` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from worker.speech.codec.chunked_network import ChunkedNetwork
from worker.speech.codec.speech_stream import SpeechStream, all_or_nothing, samples_of

FIRST_STEP = 12  # tokens of a sentence's first piece
FADE = 0.5  # tokens (10 ms) in which a piece passes into the next
# Of the reach, where nobody says how much: what the embedded model needs, 14 of 29, to stay above
# 40 dB and at its worst seam above 30 (docs/PERFORMANCE.md). The published model, 33 of 68, has not
# been measured; random weights of its sizes need 16, and a deeper network sees less of its reach.
SHARE = Fraction(14, 29)


@dataclass(frozen=True)
class Growth:
    """How many tokens the pieces of a sentence have, by what was given before them."""

    share: Fraction  # of the tokens that were given before: while it is drawn those are heard
    last: int  # tokens that a piece has at most

    def tokens(self, given: int) -> int:
        """The tokens of the piece that comes after so many."""
        return min(max(FIRST_STEP, int(self.share * given)), self.last)


# Without a gap where drawing is one and a half times as fast as hearing: a CPU with many listeners.
ON_CPU = Growth(Fraction(1, 2), 64)
# A GPU draws ten times as fast, and what limits it is how many pieces the codec has to make: nine a
# sentence of 5 s, at 64 listeners, left two of three with a gap; these are five.
ON_GPU = Growth(Fraction(3, 2), 256)


def look_ahead_of(reach: int, asked: int | None) -> int:
    """The look-ahead of streams, in tokens: what was asked for, but never more than the reach."""
    return min(reach, math.ceil(SHARE * reach) if asked is None else asked)


class EagerStream(SpeechStream):
    """Gives a piece whenever the tokens for it are there: at first few, then more.

    Which tokens make a piece is fixed by their number alone.
    """

    def __init__(
        self,
        open_stage: Callable[[], ChunkedNetwork],
        codes: int,
        look_ahead: int,
        hop: int,
        growth: Growth = ON_CPU,
    ) -> None:
        """Make a stream that is `look_ahead` tokens, each of `hop` samples, behind what it is fed.

        `open_stage` makes the network of this sentence, tokens [1, 1, n] to samples, when its first
        tokens are fed: nothing is computed before.
        """
        super().__init__(codes)
        self._open_stage = open_stage
        self._stage: ChunkedNetwork | None = None
        self._look_ahead = look_ahead
        self._growth = growth
        self._given = 0  # tokens
        self._needed = look_ahead + FIRST_STEP  # tokens that must wait for the next piece
        self._fade = np.zeros(0, np.float32) if look_ahead == 0 else _rise(int(FADE * hop))
        self._beyond = np.zeros(0, np.float32)  # what the last piece was to go on with
        self._hop = hop

    @property
    def wanted(self) -> int:
        """Tokens until the next piece."""
        return self._needed - len(self._waiting)

    def _feed(self, waiting: list[int], *, last: bool) -> NDArray[np.float32]:
        stage = self._stage = self._stage or self._open_stage()
        total, needed, beyond = self._given, self._needed, self._beyond
        given = [np.zeros(0, np.float32)]
        with all_or_nothing(stage):
            while len(waiting) >= needed:
                piece, beyond = self._piece(stage, waiting[:needed], beyond, last=False)
                given.append(piece)
                waiting = waiting[needed:]
                total += len(piece) // self._hop
                needed = self._growth.tokens(total)
            if last:
                piece, beyond = self._piece(stage, waiting, beyond, last=True)
                given.append(piece)
                waiting = []
        self._waiting, self._given, self._needed, self._beyond = waiting, total, needed, beyond
        return np.concatenate(given)

    @torch.inference_mode()
    def _piece(
        self,
        stage: ChunkedNetwork,
        tokens: list[int],
        beyond: NDArray[np.float32],
        *,
        last: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The samples up to the look-ahead, or to the end; and some that would follow on them."""
        codes = torch.tensor([[tokens]], dtype=torch.long)
        faded = -(-len(self._fade) // self._hop)  # tokens
        made = samples_of(stage.feed(codes, last=last, ahead=self._look_ahead, beyond=faded))
        if len(beyond):
            made[: len(beyond)] += (beyond - made[: len(beyond)]) * (1 - self._fade)
        end = len(made) if last else len(made) - faded * self._hop
        return made[:end], made[end : end + len(self._fade)].copy()


def _rise(count: int) -> NDArray[np.float32]:
    """From 0 to 1 in so many samples, half a cosine."""
    places = (np.arange(count, dtype=np.float32) + 0.5) / count
    rise: NDArray[np.float32] = (0.5 - 0.5 * np.cos(np.pi * places)).astype(np.float32)
    return rise
