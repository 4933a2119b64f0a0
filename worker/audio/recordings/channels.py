"""Which channel of a recording is heard, and whether another holds somebody else.

One channel is taken as it is, never a mix: what two microphones heard at different times, or with
opposite signs, would cancel in a mix, and where they agree a mix gains 3 dB against noise at most
(`python -m bench.recordings` measures both).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW_SECONDS = 0.05  # a syllable has several; hum has whole periods in each
CLEARLY_LOUDER_DB = 3.0  # below it the first channel is taken, as upstream does
SILENT_DBFS = -60.0
STEADY = 2.0  # times the power of the quiet windows: noise stays below it in all, speech does not
OTHERS_BELOW_DB = 20.0  # what is quieter than the voice by more disturbs nobody
SAME_SOUND = 0.5  # correlation of the envelopes, of one speaker before two microphones and above
QUIET_SHARE = 0.2  # of a channel's windows, below whose level its floor is
RISEN_SHARE = 0.1  # of a channel's power; of speech, most of it is above its floor

Levels64 = npt.NDArray[np.float64]  # [windows, channels]


@dataclass(frozen=True)
class Heard:
    """The channel that is heard, from 0 on, and what its caller should know of the others."""

    channel: int
    warning: str | None = None


class Levels:
    """The power of each channel in each window, gathered block by block."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._window = max(1, round(WINDOW_SECONDS * sample_rate))
        self._rest = np.zeros((0, channels), np.float32)
        self._means: list[Levels64] = []
        self._squares: list[Levels64] = []

    def add(self, block: npt.NDArray[np.float32]) -> None:
        """Take the next samples, [n, channels]."""
        waiting = np.concatenate([self._rest, block])
        whole = len(waiting) - len(waiting) % self._window
        if whole:
            self._measure(waiting[:whole])
        self._rest = waiting[whole:]

    def powers(self) -> Levels64:
        """Mean square without the offset that the whole channel has, [windows, channels].

        What is left of the last window counts only where there is no other.
        """
        if not self._means:
            missing = -len(self._rest) % self._window
            self._measure(np.pad(self._rest, ((0, missing), (0, 0))))
        means, squares = np.concatenate(self._means), np.concatenate(self._squares)
        offset = means.mean(axis=0)
        powers: Levels64 = np.maximum(squares - 2 * offset * means + offset**2, 0)
        return powers

    def _measure(self, samples: npt.NDArray[np.float32]) -> None:
        windows = samples.reshape(-1, self._window, samples.shape[1])
        self._means.append(windows.mean(axis=1, dtype=np.float64))
        self._squares.append(np.square(windows, dtype=np.float64).mean(axis=1))


def choose(powers: Levels64) -> Heard:
    """The channel whose speech is loudest; the first, where none is clearly louder than it.

    Of speech counts what rises above the channel's own floor: noise and hum, however loud, are
    their own floor. Where nothing does so in any channel, the loudest as it is.
    """
    if not np.isfinite(powers).all():
        return Heard(0)  # values that are no numbers are refused in words, later
    risen = _risen(powers)
    levels = risen if (risen > 0).any() else powers.mean(axis=0)
    clearly = levels.max() > levels[0] * _power(CLEARLY_LOUDER_DB)
    channel = int(levels.argmax()) if clearly else 0
    others = [
        other
        for other in range(len(levels))
        if other != channel
        and risen[other] > levels[channel] * _power(-OTHERS_BELOW_DB)
        and _agreement(powers[:, channel], powers[:, other]) < SAME_SOUND
    ]
    return Heard(channel, _warning(channel, others, len(levels)) if others else None)


def _risen(powers: Levels64) -> Levels64:
    """The mean power above the floor of each channel, 0 for noise, hum and silence, [channels]."""
    floor = np.quantile(powers, QUIET_SHARE, axis=0)
    risen: Levels64 = np.where(powers > STEADY * floor, powers - floor, 0).mean(axis=0)
    risen[risen < np.maximum(_power(SILENT_DBFS), RISEN_SHARE * powers.mean(axis=0))] = 0
    return risen


def _agreement(one: Levels64, other: Levels64) -> float:
    """Correlation of two envelopes, in amplitude, -1 to 1."""
    a, b = np.sqrt(one), np.sqrt(other)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def _power(decibels: float) -> float:
    return float(10 ** (decibels / 10))


def _warning(channel: int, others: list[int], count: int) -> str:
    names = " and ".join(_name(other, count) for other in others)
    return (
        f"the recording's channels hold different sounds, perhaps different speakers: "
        f"{_name(channel, count)} was heard, {names} {'was' if len(others) == 1 else 'were'} not; "
        "send the channel of the speaker alone to choose"
    )


def _name(channel: int, count: int) -> str:
    side = f" ({('left', 'right')[channel]})" if count == 2 else ""
    return f"channel {channel + 1}{side}"
