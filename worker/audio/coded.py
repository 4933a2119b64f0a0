"""One of ffmpeg's encoders in a container: samples in, bytes out into whatever takes them.

The same samples give the same bytes, however they are cut: they are encoded in frames of a fixed
length, and the container holds no dates, no names of libraries and no numbers drawn by chance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from threading import get_native_id
from types import MappingProxyType
from typing import Any, Protocol, cast

import av
import numpy as np
from av.codec.context import Flags

from worker.audio.waveform import Audio, Samples, check_finite

_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


class Sink(Protocol):
    """What a container writes to; one that has `seek` and `tell` is gone back in."""

    def write(self, content: bytes) -> int:
        """Take all of it; give its length."""
        ...


@dataclass(frozen=True)
class Codec:
    """One of ffmpeg's encoders, and the container that its packets go into."""

    name: str
    container: str
    sample_format: str
    bit_rate: int | None = None  # bit/s, where no other is asked for; None: its options say it
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


class CodedSound:
    """One channel of sound on its way into a container. One thread at a time.

    One that is dropped before its end gives back all that it holds. Raises OSError for what ffmpeg
    cannot do.
    """

    def __init__(
        self,
        sink: Sink,
        codec: Codec,
        sample_rate: int,
        *,
        bit_rate: int | None = None,
        tags: Mapping[str, str] = _NO_OPTIONS,
        read_again: Callable[[], object] | None = None,
    ) -> None:
        """`sample_rate` in Hz is one that the codec takes, `bit_rate` is in bit/s.

        `read_again` opens what was written for reading, for a container that moves its header to
        the front at the end.
        """
        with _failures():
            self._open(sink, codec, sample_rate, bit_rate or codec.bit_rate, tags, read_again)
        self._sample_format = codec.sample_format
        self._time_base = Fraction(1, sample_rate)
        self._waiting: Samples = np.zeros(0, np.float32)
        self._sent = 0  # samples

    def _open(
        self,
        sink: Sink,
        codec: Codec,
        sample_rate: int,
        bit_rate: int | None,
        tags: Mapping[str, str],
        read_again: Callable[[], object] | None,
    ) -> None:
        again: dict[str, Any] = {}
        if read_again is not None:
            again["io_open"] = lambda _url, _flags, _options: read_again()
        self._container = av.open(
            sink,
            "w",
            format=codec.container,
            # Bit exact: without the names and versions of libraries, and with a fixed Ogg serial.
            container_options={**codec.container_options, "fflags": "+bitexact"},
            **again,
        )
        # A bit rate that is asked for goes before the quality that is kept without one.
        options = {} if bit_rate and "global_quality" in codec.options else dict(codec.options)
        self._stream = cast(
            "av.AudioStream",
            self._container.add_stream(codec.name, rate=sample_rate, options=options),
        )
        context = self._stream.codec_context
        context.layout = "mono"
        context.format = codec.sample_format
        context.thread_count = 1
        context.flags |= Flags.bitexact
        if bit_rate is not None:
            context.bit_rate = bit_rate
        # Ogg keeps tags with the stream, the others with the file.
        (self._stream if codec.container == "ogg" else self._container).metadata.update(tags)
        self._container.start_encoding()
        self._frame = context.frame_size  # samples

    def add(self, samples: Samples) -> None:
        """Encode the next samples, float32 [n]. Raises SynthesisError for what is not finite."""
        check_finite(Audio(samples, self._time_base.denominator))
        waiting = np.concatenate([self._waiting, samples])
        whole = len(waiting) - len(waiting) % self._frame
        with _failures():
            for start in range(0, whole, self._frame):
                self._send(waiting[start : start + self._frame])
        self._waiting = waiting[whole:]

    def finish(self) -> None:
        """Encode what is left, and end the file."""
        with _failures():
            if len(self._waiting):
                self._send(self._waiting)
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def close(self) -> None:
        """Give back what it holds, before the end too."""
        with suppress(AttributeError, av.FFmpegError, OSError):  # it may not even be open
            self._container.close()

    def __del__(self) -> None:
        # The container and its stream hold each other: else they would wait for the collector.
        self.close()

    def _send(self, samples: Samples) -> None:
        """Encode one frame; only the last may be short."""
        frame = av.AudioFrame.from_ndarray(
            samples[np.newaxis], format=self._sample_format, layout="mono"
        )
        frame.sample_rate = self._time_base.denominator
        frame.time_base = self._time_base
        frame.pts = self._sent
        first, self._sent = not self._sent, self._sent + len(samples)
        # PyAV sends frames through a filter graph of its own, made with the first one, which has
        # as many threads as its maker has processors.
        with _one_processor() if first else nullcontext():
            packets = self._stream.encode(frame)
        self._container.mux(packets)


@contextmanager
def _failures() -> Iterator[None]:
    """Let ffmpeg's errors be OSErrors, some of which they are already."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(error.errno, error.strerror) from error


@contextmanager
def _one_processor() -> Iterator[None]:
    """Let this thread have one processor alone, for a moment."""
    before = os.sched_getaffinity(0)
    one = sorted(before)[get_native_id() % len(before)]
    os.sched_setaffinity(0, {one})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
