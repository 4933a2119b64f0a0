"""Runs the codec's networks on a GPU over the chunks of many sentences at once.

    run        a sentence's thread asks for a chunk's samples, and waits
    choose     the codec's thread takes what fits of the waiting chunks (packing.py)
    put        their tokens are copied to the device: what the networks read stands at fixed places
    compute    the prenet, then the wave generator, each a graph of the length that holds them
    read       the samples come to the host in one copy, and go to those who wait

Nothing but whole numbers goes in, and nothing but samples comes out: sentences hold nothing on the
device. A length that was captured needs no memory when it runs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.logs import event
from worker.speech.codec.chunked_network import gap_of
from worker.speech.codec.packing import NOBODY, Chunk, Layout, Lengths, Place
from worker.speech.codec.prenet_batch import PrenetBatch
from worker.speech.codec.snake_kernel import SnakeKernel
from worker.speech.codec.wave_batch import WaveBatch, snake
from worker.speech.device import Lane, captured, empty_cache, graph_pool
from worker.speech.device_errors import Failure, failure_of, short_of_memory

VOICES = 16  # chunks of a run, at most
FIRST_DUE = 0.1  # seconds after which a listener's first chunk should be on its way
AHEAD = 0.15  # seconds before a listener's audio runs out that the next chunk should be
# Tokens. Each length is planned by cuDNN and captured at the start.
PRENET_LENGTHS = (96, 192, 256, 384, 512, 1024)
WAVE_LENGTHS = (32, 64, 128, 192, 256, 384, 512, 1024)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A chunk that somebody waits for."""

    chunk: Chunk
    samples: Future[NDArray[np.float32]] = field(default_factory=Future)


def open_batch(
    bicodec: Any, dtype: torch.dtype, voice_length: int, wave_context: int
) -> CodecBatch:
    """Make upstream's networks, whose wave generator is in `dtype`, run over many chunks.

    `wave_context` is what `context_of` gives of the wave generator. The networks are changed, and
    run from then on only in here.
    """
    device = next(bicodec.parameters()).device
    has_kernel = _is_gpu(device) and dtype == torch.bfloat16
    kernel = SnakeKernel.open(device) if has_kernel else None
    lengths = Lengths(
        prenet=PRENET_LENGTHS,
        wave=WAVE_LENGTHS,
        prenet_gap=gap_of(bicodec.prenet),
        wave_gap=gap_of(bicodec.decoder),
        wave_context=wave_context,
        voices=VOICES,
        most_prenet=PRENET_LENGTHS[-1],
        most_wave=WAVE_LENGTHS[-1],
    )
    return CodecBatch(
        PrenetBatch(bicodec),
        WaveBatch(bicodec.decoder, dtype, kernel or snake),
        lengths,
        bicodec.decoder.model[0].in_channels,
        voice_length,
        device,
    )


class CodecBatch:
    """The networks, and the one thread and stream of the device that run them."""

    def __init__(
        self,
        prenet: PrenetBatch,
        wave: WaveBatch,
        lengths: Lengths,
        features: int,
        voice_length: int,
        device: torch.device,
    ) -> None:
        """`features` are the channels between the networks, `voice_length` a voice's tokens."""
        self.lengths = lengths
        self._hop = wave.rate
        self._guard = Lock()
        self._waiting: list[_Waiting] = []
        self._numbers = _Numbers(lengths, voice_length, device)
        self._features = torch.zeros(1, features, lengths.prenet[-1], device=device)
        self._samples = torch.zeros(self._hop * lengths.wave[-1], pin_memory=_is_gpu(device))
        self._prenet = _Graphs(self._run_prenet(prenet), lengths.prenet)
        self._wave = _Graphs(self._run_wave(wave), lengths.wave)
        self._lane = Lane(device, "codec")  # behind all that was queued above

    # For those who ask

    def run(self, chunk: Chunk) -> NDArray[np.float32]:
        """Give the samples [n] of what is kept of the chunk. Raises what its run failed with."""
        if len(chunk.codes) > self.lengths.prenet[-1]:
            raise ValueError(f"a chunk of {len(chunk.codes)} tokens is longer than any run")
        waiting = _Waiting(chunk)
        with self._guard:
            self._waiting.append(waiting)
        # As many calls as chunks: each takes one at least, though it need not be its own.
        self._lane.start(self._serve)
        return waiting.samples.result()

    def prepare(self) -> None:
        """Capture each length, where this is a GPU; where memory is short, shorter runs alone.

        To be called before the first chunk, and after the steps of the language model are captured.
        """
        if self._features.device.type == "cuda":
            self._lane.do(self._capture)

    # The codec's thread

    @torch.inference_mode()
    def _capture(self) -> None:
        pool = graph_pool()
        try:
            # The wave generator first: the prenet then fits the memory that it took.
            most_wave = self._wave.capture(pool)
            most_prenet = self._prenet.capture(pool)
        except RuntimeError as error:
            event(logging.ERROR, "the codec runs uncaptured", error=str(error))
        else:
            self.lengths = replace(self.lengths, most_prenet=most_prenet, most_wave=most_wave)

    @torch.inference_mode()
    def _serve(self) -> None:
        """Compute those of the waiting chunks that go first, if any are left."""
        with self._guard:
            ordered = sorted(self._waiting, key=lambda waiting: waiting.chunk.due)
            layout = Layout.of((waiting.chunk for waiting in ordered), self.lengths)
            chosen = {id(place.chunk) for place in layout.places}
            taken = [waiting for waiting in ordered if id(waiting.chunk) in chosen]
            self._waiting = [one for one in self._waiting if id(one.chunk) not in chosen]
        if not taken:
            return
        error = self._answer(taken, layout)
        if error is None:
            return
        if len(taken) == 1 or failure_of(error) is Failure.BROKEN:
            _fail(taken, error)
            return
        # What failed is one of them, or that there are many: each shows by itself.
        for waiting in taken:
            layout = Layout.of([waiting.chunk], self.lengths)
            if (error := self._answer([waiting], layout)) is not None:
                _fail([waiting], error)

    def _answer(self, taken: Sequence[_Waiting], layout: Layout) -> Exception | None:
        """Give them their samples; or give the error that came of it."""
        try:
            samples = self._compute(layout)
        except Exception as error:
            error.__traceback__ = None  # which holds the tensors that may have been too many
            failed: Exception = error
        else:
            for waiting, some in zip(taken, samples, strict=True):
                waiting.samples.set_result(some)
            return None
        if short_of_memory(failed):
            empty_cache()
        return failed

    def _compute(self, layout: Layout) -> list[NDArray[np.float32]]:
        """The samples of each chunk."""
        self._numbers.put(layout, self.lengths)
        self._prenet.run(layout.prenet)
        made = self._wave.run(layout.wave)  # [hop * positions]
        last = layout.places[-1]
        used = self._hop * (last.wave + len(self.lengths.wave_range(last.chunk)))
        samples = self._to_host(made[:used])
        return [
            samples[self._hop * first : self._hop * behind].copy()
            for first, behind in (self._kept(place) for place in layout.places)
        ]

    def _to_host(self, made: Tensor) -> NDArray[np.float32]:
        host = self._samples[: len(made)]
        host.copy_(made, non_blocking=True)
        if made.device.type == "cuda":
            event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's are
            event.record()  # type: ignore[no-untyped-call]  # torch's too
            event.synchronize()
        samples: NDArray[np.float32] = host.numpy()
        return samples

    def _kept(self, place: Place) -> tuple[int, int]:
        """The positions of the wave generator whose samples are kept of a chunk."""
        begin = place.wave - self.lengths.wave_range(place.chunk).start
        return begin + place.chunk.kept.start, begin + place.chunk.kept.stop

    # What is computed, at fixed places

    def _run_prenet(self, prenet: PrenetBatch) -> Callable[[int], Tensor]:
        def run(length: int) -> Tensor:
            numbers = self._numbers
            made = prenet(numbers.codes[:length], numbers.owners[:length], numbers.voices)
            return self._features[..., :length].copy_(made)

        return run

    def _run_wave(self, wave: WaveBatch) -> Callable[[int], Tensor]:
        def run(length: int) -> Tensor:
            sources = self._numbers.sources[:length]
            valid = sources != NOBODY
            features = self._features.index_select(-1, sources.clamp_min(0))
            return wave(features.masked_fill(valid.logical_not(), 0), valid)

        return run


class BatchedSentence:
    """One sentence's chunks, for a `ChunkedNetwork`: tokens in, samples out, both on the host.

    Who listens is to hear something soon, and then no gap. Whose audio is about to run out goes
    before who hears nothing yet; whose lasts, behind.
    """

    def __init__(
        self, batch: CodecBatch, voice: tuple[int, ...], sample_rate: int, *, eager: bool
    ) -> None:
        """`voice` are global tokens; to an `eager` one somebody listens meanwhile."""
        self._batch = batch
        self._voice = voice
        self._sample_rate = sample_rate
        self._eager = eager
        self._runs_out: float | None = None  # when the listener has heard all that there was

    def __call__(self, codes: Tensor, kept: slice) -> Tensor:
        """Turn tokens [1, 1, n] into the samples [1, 1, hop * m] of what is kept of them."""
        first = self._eager and self._runs_out is None
        chunk = Chunk(self._voice, codes[0, 0].numpy(), kept, self._due(), first)
        samples = self._batch.run(chunk)
        now = time.perf_counter()
        self._runs_out = max(now, self._runs_out or now) + len(samples) / self._sample_rate
        return torch.from_numpy(samples)[None, None]

    def _due(self) -> float:
        """When the next chunk should be on its way."""
        if not self._eager:
            return math.inf
        if self._runs_out is None:
            return time.perf_counter() + FIRST_DUE
        return self._runs_out - AHEAD


class _Numbers:
    """The whole numbers of a run, on the host and on the device; one copy brings them there."""

    def __init__(self, lengths: Lengths, voice_length: int, device: torch.device) -> None:
        prenet, wave = lengths.prenet[-1], lengths.wave[-1]
        parts = [prenet, prenet, lengths.voices * voice_length, wave]
        self._host = torch.zeros(sum(parts), dtype=torch.long, pin_memory=_is_gpu(device))
        self._device = torch.zeros(sum(parts), dtype=torch.long, device=device)
        shape = lengths.voices, voice_length
        self.codes, self.owners, voices, self.sources = torch.split(self._device, parts)
        self.voices = voices.view(shape)
        ends = np.cumsum(parts)[:-1]
        self._codes, self._owners, host_voices, self._sources = np.split(self._host.numpy(), ends)
        self._voices = host_voices.reshape(shape)

    def put(self, layout: Layout, lengths: Lengths) -> None:
        """Send the numbers of a run. The copy before must be done."""
        self._owners[: layout.prenet] = NOBODY
        self._sources[: layout.wave] = NOBODY
        for owner, place in enumerate(layout.places):
            chunk, read = place.chunk, lengths.wave_range(place.chunk)
            positions = slice(place.prenet, place.prenet + len(chunk.codes))
            self._codes[positions] = chunk.codes
            self._owners[positions] = owner
            self._voices[owner] = chunk.voice
            self._sources[place.wave : place.wave + len(read)] = np.arange(
                place.prenet + read.start, place.prenet + read.stop
            )
        self._device.copy_(self._host, non_blocking=True)


class _Graphs:
    """What runs at a few lengths: as graphs where those were captured, else as it is written."""

    def __init__(self, work: Callable[[int], Tensor], lengths: tuple[int, ...]) -> None:
        self._work = work
        self._lengths = lengths
        self._graphs: dict[int, tuple[Any, Tensor]] = {}

    def capture(self, pool: Any) -> int:
        """Capture all lengths that the memory suffices for; give the longest, else the shortest.

        Raises RuntimeError where something else fails.
        """
        # The longest first: the others then fit the memory that it took.
        for length in reversed(self._lengths):
            if not self._captures(length, pool):
                event(logging.WARNING, "audio is made of fewer tokens at once", tokens=length)
                empty_cache()  # past the handler, which held the tensors that were too many
        return max(self._graphs, default=self._lengths[0])

    def _captures(self, length: int, pool: Any) -> bool:
        """Whether the length is captured; not if memory is short."""
        try:
            self._graphs[length] = captured(partial(self._work, length), pool)
        except (RuntimeError, MemoryError) as error:
            # What torch says of the capture's end stands before what broke it.
            causes = (error, error.__context__)
            if not any(cause is not None and short_of_memory(cause) for cause in causes):
                raise
            return False
        return True

    def run(self, length: int) -> Tensor:
        """What it gives at this length; the next run overwrites it."""
        if length not in self._graphs:
            return self._work(length)
        graph, made = self._graphs[length]
        graph.replay()
        return made


def _fail(waiting: Iterable[_Waiting], error: Exception) -> None:
    for one in waiting:
        one.samples.set_exception(error)


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
