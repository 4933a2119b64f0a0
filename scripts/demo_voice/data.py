"""What the networks learn from, in shards on disk, each a function of its number alone.

plans/NNNN.npz   some thousand sentences for the language model: text, symbols, pitch, pace
sounds/NNNN.npz  some hundred sentences in both voices for the codec and the front end
own/NNNN.npz     the same as a finished checkpoint says them, for the aligner
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.demo_voice import styles
from scripts.demo_voice.codes import FRAME, Ints

HELD_OUT = 0  # the shard that nothing is trained on


@dataclass(frozen=True)
class Planned:
    """A sentence in frames, its pitch still free."""

    text: str  # as the language model reads it
    symbols: Ints  # [frames]
    f0: npt.NDArray[np.float64]  # [frames] hertz, 0 where unvoiced
    speed: int  # its speed_value


@dataclass(frozen=True)
class Sound:
    """A sentence that was made audible."""

    text: str
    gender: str
    codes: Ints  # [frames]
    samples: npt.NDArray[np.int16]  # [frames * FRAME]


def plans(path: Path) -> Iterator[Planned]:
    """The sentences of one shard."""
    with np.load(path) as shard:
        texts = str(shard["texts"]).split("\n")
        ends = np.cumsum(shard["lengths"])
        symbols, f0 = shard["symbols"].astype(np.int64), shard["f0"].astype(np.float64)
        for text, length, end, speed in zip(
            texts, shard["lengths"], ends, shard["speeds"], strict=True
        ):
            part = slice(end - length, end)
            yield Planned(text, symbols[part], f0[part], int(speed))


def sounds(path: Path) -> Iterator[Sound]:
    """The sentences of one shard."""
    with np.load(path) as shard:
        if not len(shard["lengths"]):
            return
        ends = np.cumsum(shard["lengths"])
        units, samples = shard["codes"].astype(np.int64), shard["samples"]
        for text, gender, length, end in zip(
            str(shard["texts"]).split("\n"), shard["genders"], shard["lengths"], ends, strict=True
        ):
            start = end - length
            wave = samples[start * FRAME : end * FRAME]
            yield Sound(text, styles.GENDERS[gender], units[start:end], wave)


def scaled(f0: npt.NDArray[np.float64], hertz: float) -> npt.NDArray[np.float64]:
    """The pitch [frames] moved so that its mean is `hertz`."""
    voiced = f0[f0 > 0]
    return f0 * (hertz / voiced.mean()) if len(voiced) else f0
