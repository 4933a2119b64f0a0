"""One decoding of one file: samples go in block by block, and the bounds are held here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.audio.recordings.channels import Levels
from worker.audio.waveform import Samples
from worker.cancellation import Cancellation
from worker.errors import VoiceError

SAMPLE_RATE_MIN = 8_000
SAMPLE_RATE_MAX = 192_000
CHANNELS_MAX = 8
DECODE_SECONDS = 20.0  # of the clock; a minute of sound takes some tenths of one

READABLE = "WAV, FLAC, MP3, OGG, M4A or MP4, WebM, 3GP or AMR, WMA, AIFF or CAF"

Blocks = npt.NDArray[np.float32]  # [n, channels]


class UndecodableError(VoiceError):
    """The file is damaged, or no recording: another decoder may yet read it."""


@dataclass(frozen=True)
class Bounds:
    """How much of a file is decoded, for how long, and what its errors name."""

    longest: float  # seconds of sound
    field: str | None = None
    cancellation: Cancellation | None = None
    deadline: float = float("inf")  # by `clock`
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def starting_now(
        cls,
        longest: float,
        field: str | None,
        cancellation: Cancellation | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Bounds:
        """Bounds of a reading that begins now."""
        return cls(longest, field, cancellation, clock() + DECODE_SECONDS, clock)

    @property
    def over(self) -> bool:
        """Whether nobody waits for more: the time is up, or the job was cancelled."""
        cancelled = self.cancellation is not None and self.cancellation.cancelled
        return cancelled or self.clock() > self.deadline

    def check(self) -> None:
        """Raise JobCancelledError or, where the time is up, VoiceError."""
        if self.cancellation is not None:
            self.cancellation.check()
        if self.clock() > self.deadline:
            raise self.fault(
                f"takes more than {DECODE_SECONDS:g} s to decode; save it anew as a WAV"
            )

    def fault(self, found: str) -> VoiceError:
        """The error for what was found: "is empty" and the like."""
        return VoiceError(f"the reference audio {found}", field=self.field)

    def undecodable(self, reason: str) -> UndecodableError:
        """The error for a file that is damaged, or no recording."""
        return UndecodableError(
            f"the reference audio cannot be decoded ({reason}); use an undamaged {READABLE} file",
            field=self.field,
        )

    def too_long(self, found: str = "too long") -> VoiceError:
        """The error for more sound than is allowed."""
        return self.fault(f"is {found}; use at most {self.longest:g} s")

    def cut_short(self, found: object, promised: object, unit: str) -> VoiceError:
        """The error for a file that has less than it honestly says."""
        return self.fault(f"is cut short: {found} of {promised} {unit} are there; upload it again")


class Take:
    """Keeps one channel of what is decoded, and the levels of all of them.

    So eight channels cost no more memory than one; another channel is another decoding.
    """

    def __init__(self, bounds: Bounds, channel: int = 0) -> None:
        self.bounds = bounds
        self.sample_rate = 0
        self.channels = 0
        self.total = 0  # samples of each channel
        self.levels: Levels | None = None  # of more channels than one
        self._channel = channel
        self._kept: list[Samples] = []

    def again(self) -> Take:
        """Another, empty one for the same file, channel and bounds."""
        return Take(self.bounds, self._channel)

    def check(self, sample_rate: int, channels: int) -> None:
        """Raise VoiceError for what must not be decoded, by what its header says."""
        if not SAMPLE_RATE_MIN <= sample_rate <= SAMPLE_RATE_MAX:
            raise self.bounds.fault(
                f"has a sample rate of {sample_rate} Hz; use {SAMPLE_RATE_MIN} to {SAMPLE_RATE_MAX}"
            )
        if channels > CHANNELS_MAX:
            raise self.bounds.fault(f"has {channels} channels; use at most {CHANNELS_MAX}")

    def open(self, sample_rate: int, channels: int) -> None:
        """Say what comes next. Raises VoiceError for what must not be, or is another rate."""
        self.check(sample_rate, channels)
        if self.sample_rate not in (0, sample_rate):
            raise self.bounds.fault(
                f"changes from {self.sample_rate} to {sample_rate} Hz on its way; "
                "save it anew at one sample rate"
            )
        if self.channels == 0:
            self.sample_rate, self.channels = sample_rate, channels
            self.levels = Levels(channels, sample_rate) if channels > 1 else None

    def add(self, block: Blocks) -> None:
        """Take the next samples. Raises VoiceError where they are too many, or too late."""
        self.bounds.check()
        block = _with_channels(block, self.channels)
        self.total += len(block)
        if self.total > self.bounds.longest * self.sample_rate:
            raise self.bounds.too_long()
        if self.levels is not None:
            self.levels.add(block)
        self._kept.append(block[:, self._channel].copy())

    def samples(self) -> Samples:
        """The channel that was kept, float32 [total]."""
        return np.concatenate(self._kept) if self._kept else np.zeros(0, np.float32)


def _with_channels(block: Blocks, channels: int) -> Blocks:
    """Of files that were joined, one may be stereo and the next mono."""
    found = block.shape[1]
    if found >= channels:
        return block[:, :channels]
    return np.concatenate([block, np.repeat(block[:, :1], channels - found, axis=1)], axis=1)
