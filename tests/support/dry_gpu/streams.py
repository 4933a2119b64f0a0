"""The pretended GPU itself: streams and their order, events, graphs as tapes, waits for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Clock = dict[int, int]  # of each stream, by its number: how many of its operations are done


class SynchronisedError(AssertionError):
    """The host would wait for the device where it must not."""


class RaceError(AssertionError):
    """Memory that another stream may still be writing or reading."""


@dataclass(eq=False)
class Memory:
    """What was done last to the memory that some tensors share."""

    written: tuple[int, int] = (0, 0)  # the stream, and which of its operations
    read: Clock = field(default_factory=dict)


class Stream:
    """Operations in their order; `seen` is what is done before its next one."""

    def __init__(self, gpu: Gpu, number: int) -> None:
        self._gpu = gpu
        self.number = number
        self.device = torch.device("cuda", 0)
        self.seen: Clock = {}
        self.count = 0

    @property
    def cuda_stream(self) -> int:
        return self.number

    @property
    def now(self) -> Clock:
        """All that is done once this stream is."""
        return {**self.seen, self.number: self.count}

    def wait_stream(self, other: Stream) -> None:
        later(self.seen, other.now)

    def wait_event(self, event: Event) -> None:
        later(self.seen, event.recorded)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event(self._gpu)
        event.recorded = self.now
        return event

    def synchronize(self) -> None:
        self._gpu.waited("a stream's synchronize()", self.now)

    def query(self) -> bool:
        return True


class Event:
    """A place in a stream."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.recorded: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        (stream or self._gpu.current).record_event(self)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or self._gpu.current).wait_event(self)

    def synchronize(self) -> None:
        self._gpu.waited("an event's synchronize()", self.recorded)

    def query(self) -> bool:
        return True


def _caller() -> str:
    """The file and line outside torch and this package that asked for what is done."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if "/tests/support/dry_gpu/" not in name and "/torch/" not in name:
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def later(clock: Clock, other: Clock) -> None:
    """Make the clock at least the other."""
    for number, count in other.items():
        clock[number] = max(clock.get(number, 0), count)


@dataclass
class _Operation:
    run: Callable[[], Any]  # on the same memory again
    results: list[tuple[int, Tensor]]  # new memory: place among the results, values
    reads: list[Memory]
    writes: list[Memory]


class Graph:
    """Stands for torch.cuda.CUDAGraph: a tape of operations."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.tape: list[_Operation] = []
        self.pool: object = self
        self.replayed = 0
        self._spoilt = False

    def replay(self) -> None:
        gpu = self._gpu
        if not self.tape:
            raise RuntimeError("a graph is replayed that was never captured")
        for other in gpu.graphs:
            if other is not self and other.pool == self.pool:
                other.spoil()
        self.replayed += 1
        self._spoilt = False
        for operation in self.tape:
            gpu.ordered(operation.reads, operation.writes)
            made = operation.run()
            made = made if isinstance(made, tuple | list) else (made,)
            for place, values in operation.results:
                values.copy_(made[place])

    def reset(self) -> None:
        self.tape.clear()

    def spoil(self) -> None:
        """What its results are worth once its memory is used for another: nothing."""
        if self._spoilt:
            return
        self._spoilt = True
        for operation in self.tape:
            for _, values in operation.results:
                values.fill_(float("nan") if values.dtype.is_floating_point else -1)


class _Here(threading.local):
    """What is a thread's own."""

    stream: Stream | None = None
    capturing: Graph | None = None
    unsynchronised = 0


class Gpu:
    """One pretended GPU."""

    def __init__(self, free: int, total: int) -> None:
        self.memory = free, total
        self.waits: list[str] = []  # for the device, in order: why, and where
        self.graphs: list[Graph] = []
        self._streams = [Stream(self, 0)]
        self._known: Clock = {}  # to the host: done
        self._here = _Here()
        self._guard = threading.RLock()
        self._changed: dict[int, tuple[Tensor, Tensor]] = {}  # by a capture, which runs nothing
        self.pinned: set[int] = set()  # addresses of storages
        self._kept: list[Tensor] = []  # so that no address is used twice

    # What tests ask

    @contextmanager
    def unsynchronised(self) -> Iterator[None]:
        """Within it, this thread's waiting for the device is an error."""
        self._here.unsynchronised += 1
        try:
            yield
        finally:
            self._here.unsynchronised -= 1

    # What operations tell

    @property
    def current(self) -> Stream:
        return self._here.stream or self._streams[0]

    @property
    def capturing(self) -> Graph | None:
        return self._here.capturing

    def waited(self, why: str, done: Clock | None = None) -> None:
        """The host waits; for the current stream where nothing else is said."""
        if self._here.unsynchronised or self._here.capturing:
            where = "while a graph is captured" if self._here.capturing else "here"
            raise SynchronisedError(f"the host must not wait for the device {where}: {why}")
        with self._guard:
            later(self._known, self.current.now if done is None else done)
            self.waits.append(f"{why} ({_caller()})")

    def ordered(self, reads: list[Memory], writes: list[Memory]) -> None:
        """An operation is queued: raises RaceError where it may not find what it should."""
        if self.capturing is not None:
            return  # what is captured runs at its replays
        with self._guard:
            stream = self.current
            later(stream.seen, self._known)
            stream.count += 1
            for memory in [*reads, *writes]:
                writer, count = memory.written
                if writer != stream.number and stream.seen.get(writer, 0) < count:
                    raise RaceError(
                        f"stream {stream.number} uses what stream {writer} may still write"
                    )
            for memory in writes:
                for reader, count in memory.read.items():
                    if reader != stream.number and stream.seen.get(reader, 0) < count:
                        raise RaceError(
                            f"stream {stream.number} writes what stream {reader} may still read"
                        )
                memory.written, memory.read = (stream.number, stream.count), {}
            for memory in reads:
                memory.read[stream.number] = stream.count

    def note(
        self,
        run: Callable[[], Any],
        results: list[tuple[int, Tensor]],
        reads: list[Memory],
        writes: list[Memory],
    ) -> None:
        """An operation for the tape, where one is being captured."""
        if self.capturing is not None:
            self.capturing.tape.append(_Operation(run, results, reads, writes))

    def before_change(self, values: Tensor) -> None:
        """Memory that an operation is about to change: a capture leaves it as it was."""
        if self.capturing is not None and values.data_ptr() not in self._changed:
            self._changed[values.data_ptr()] = values, values.clone()

    def pin(self, values: Tensor) -> Tensor:
        """Call this memory of the host pinned."""
        self.pinned.add(values.untyped_storage().data_ptr())
        self._kept.append(values)
        return values

    def is_pinned(self, values: Tensor) -> bool:
        return values.untyped_storage().data_ptr() in self.pinned

    # torch.cuda

    def functions(self) -> dict[str, Any]:
        """Names of torch.cuda, and what stands for them."""
        return {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "init": lambda: None,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda _device: None,
            "get_device_name": lambda _device=None: "a dry run",
            "get_device_capability": lambda _device=None: (8, 6),
            "get_device_properties": lambda _device=None: SimpleNamespace(
                name="a dry run",
                total_memory=self.memory[1],
                multi_processor_count=1,
                major=8,
                minor=6,
            ),
            "device": lambda _device: nullcontext(),
            "get_arch_list": lambda: ["sm_80", "sm_86", "sm_90"],
            "is_bf16_supported": lambda *_args, **_more: True,
            "mem_get_info": lambda _device=None: self.memory,
            "memory_reserved": lambda _device=None: 0,
            "memory_allocated": lambda _device=None: 0,
            "empty_cache": lambda: None,
            "synchronize": lambda _device=None: self._synchronize(),
            "Stream": lambda *_args, **_more: self._stream(),
            "Event": lambda *_args, **_more: Event(self),
            "stream": self._in_stream,
            "current_stream": lambda _device=None: self.current,
            "default_stream": lambda _device=None: self._streams[0],
            "set_stream": self._set_stream,
            "CUDAGraph": lambda *_args, **_more: Graph(self),
            "graph": self._capture,
            "graph_pool_handle": object,
            "is_current_stream_capturing": lambda: self.capturing is not None,
        }

    def _stream(self) -> Stream:
        with self._guard:
            self._streams.append(Stream(self, len(self._streams)))
            return self._streams[-1]

    def _synchronize(self) -> None:
        done: Clock = {}
        for stream in self._streams:
            later(done, stream.now)
        self.waited("torch.cuda.synchronize()", done)

    def _set_stream(self, stream: Stream) -> None:
        self._here.stream = stream

    @contextmanager
    def _in_stream(self, stream: Stream | None) -> Iterator[None]:
        before = self._here.stream
        self._here.stream = stream or before
        try:
            yield
        finally:
            self._here.stream = before

    @contextmanager
    def _capture(
        self, graph: Graph, pool: object = None, stream: Stream | None = None, **_more: Any
    ) -> Iterator[None]:
        self._synchronize()  # as torch does
        graph.pool = graph if pool is None else pool
        side = stream or self._stream()
        with self._in_stream(side):
            if side.number == 0:
                raise RuntimeError("the default stream cannot be captured")
            self._here.capturing = graph
            try:
                yield
            finally:
                self._here.capturing = None
                for values, before in self._changed.values():
                    values.copy_(before)
                self._changed.clear()
        graph.spoil()
        self.graphs.append(graph)
