"""A job's audio, kept on the disk, so that memory does not grow with the length of its speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.audio.waveform import Audio, Samples, Span
from worker.errors import StorageError

BLOCK = 1 << 16  # samples that are in memory at a time

_TYPE = np.dtype("<f4")


@dataclass(frozen=True)
class Clip:
    """Some audio in a spool: `length` samples from `start` on, `sample_rate` in Hz."""

    start: int
    length: int
    sample_rate: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.length / self.sample_rate


class Spool:
    """Keeps audio in one file, float32 as it is: 64 kB for a second at 16 kHz.

    One thread adds; any may read what was added. Methods raise StorageError where the disk is
    full or fails.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._length = 0  # samples

    def add(self, audio: Audio) -> Clip:
        """Keep one channel of sound."""
        clip = Clip(self._length, len(audio.samples), audio.sample_rate)
        try:
            # At its place: what an earlier, failed attempt has left there is written over.
            with self._file.open("r+b" if self._file.exists() else "wb") as file:
                file.seek(clip.start * _TYPE.itemsize)
                file.write(np.ascontiguousarray(audio.samples, _TYPE).data)
        except OSError as error:
            raise _failed("kept", error) from None
        self._length += clip.length
        return clip

    def read(self, clip: Clip) -> Audio:
        """Give back what was added, all of it in memory."""
        return Audio(self._samples(clip.start, clip.length), clip.sample_rate)

    def blocks(self, clips: Sequence[Clip], silences: Sequence[int]) -> Iterator[Samples]:
        """Give the clips one after the other, with the silence around them, in blocks.

        `silences` are the samples of it before each clip, and after the last one. A block is
        float32 [n], n at most BLOCK.
        """
        silence = np.zeros(min(max(silences), BLOCK), np.float32)
        for index, length in enumerate(silences):
            for done in range(0, length, BLOCK):
                yield silence[: length - done]
            for clip in clips[index : index + 1]:
                for done in range(0, clip.length, BLOCK):
                    yield self._samples(clip.start + done, min(BLOCK, clip.length - done))

    def _samples(self, start: int, length: int) -> Samples:
        if not length:
            return np.zeros(0, np.float32)
        try:
            read = np.fromfile(self._file, _TYPE, length, offset=start * _TYPE.itemsize)
        except OSError as error:
            raise _failed("read", error) from None
        if len(read) != length:
            raise StorageError("the worker's temporary folder has lost audio; send the job again")
        return read.astype(np.float32, copy=False)


def laid_out(clips: Sequence[Clip], silences: Sequence[int]) -> tuple[Span, ...]:
    """The span of each clip when they follow each other, with this silence around them.

    `silences` are the samples of it before each clip, and after the last one.
    """
    spans: list[Span] = []
    position = 0
    for clip, before in zip(clips, silences[:-1], strict=True):
        start = position + before
        position = start + clip.length
        spans.append(Span(start / clip.sample_rate, position / clip.sample_rate))
    return tuple(spans)


def _failed(done: str, error: OSError) -> StorageError:
    return StorageError(
        f"audio could not be {done} in the worker's temporary folder: {error.strerror}"
    )
