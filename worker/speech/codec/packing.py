"""Lays the chunks of many sentences behind each other, for one run of the codec's networks.

    the prenet's tokens           [chunk ......][gap][chunk ............][gap][chunk ...]    [rest]
    the wave generator's          [what is kept, and its context][gap][...][gap][...]        [rest]

The prenet computes all of a chunk. The wave generator has a shorter reach, and computes what is
kept of the chunk and its own context. A gap is as long as a convolution's reach past its place, so
that none sees two chunks; the rest, up to the next length that is computed, is a gap too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.speech.device import holding

NOBODY = -1  # whose a position in a gap is


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some tokens of a sentence, and of which of them the samples are wanted."""

    voice: tuple[int, ...]  # global tokens
    codes: NDArray[np.int64]  # semantic tokens [n], contexts included
    kept: slice  # of them
    due: float = math.inf  # when it should be on its way, by the clock of who orders them
    first: bool = False  # of a listener who hears nothing yet


@dataclass(frozen=True)
class Lengths:
    """What a run may be, in tokens: ascending lengths of both networks, and how they see."""

    prenet: tuple[int, ...]
    wave: tuple[int, ...]
    prenet_gap: int
    wave_gap: int
    wave_context: int
    voices: int  # chunks of a run, at most
    most_prenet: int  # of these lengths, for more than one chunk
    most_wave: int

    def wave_range(self, chunk: Chunk) -> range:
        """The tokens of the chunk whose features the wave generator reads."""
        first, behind = chunk.kept.start, chunk.kept.stop
        return range(
            max(0, first - self.wave_context), min(len(chunk.codes), behind + self.wave_context)
        )


@dataclass(frozen=True)
class Place:
    """Where a chunk lies."""

    chunk: Chunk
    prenet: int  # its first position there
    wave: int


@dataclass(frozen=True)
class Layout:
    """The chunks of one run, and where each lies."""

    places: tuple[Place, ...]
    prenet: int  # the length that is computed
    wave: int

    @classmethod
    def of(cls, waiting: Iterable[Chunk], lengths: Lengths) -> Layout:
        """Choose of the chunks, which stand in their order, those that fit into one run.

        The first of them is among them. Listeners who hear nothing yet wait for each other alone:
        others join where the run is no longer for it.
        """
        places: list[Place] = []
        prenet_ends, wave_ends = 0, 0
        most_prenet, most_wave = lengths.most_prenet, lengths.most_wave
        shortened = False
        for chunk in waiting:
            if places and places[0].chunk.first and not (chunk.first or shortened):
                shortened = True
                most_prenet = holding(lengths.prenet, prenet_ends)
                most_wave = holding(lengths.wave, wave_ends)
            prenet = prenet_ends + lengths.prenet_gap if places else 0
            wave = wave_ends + lengths.wave_gap if places else 0
            after_prenet = prenet + len(chunk.codes)
            after_wave = wave + len(lengths.wave_range(chunk))
            if places and (after_prenet > most_prenet or after_wave > most_wave):
                continue
            places.append(Place(chunk, prenet, wave))
            prenet_ends, wave_ends = after_prenet, after_wave
            if len(places) == lengths.voices:
                break
        return cls(
            tuple(places),
            holding(lengths.prenet, prenet_ends),
            holding(lengths.wave, wave_ends),
        )
