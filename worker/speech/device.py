"""What a whole process shares of its GPU: streams, the one allocator, copies to it.

Nothing here waits for the GPU. On a CPU each of these does what is left to do there.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

from worker import cpu_info

T = TypeVar("T")
FIRST = -1  # priority of a stream whose work goes before that of others

_allocator = Lock()  # held while a graph is captured, and while memory is given back


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_info.multiplies_bfloat16()


def stream_on(device: torch.device, priority: int = 0) -> torch.cuda.Stream | None:
    """Make a stream that begins after all work queued on the current one; None on a CPU."""
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]  # torch's
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def on(stream: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    """Send the work of this thread to the stream within the block."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def on_device(numbers: Tensor | Sequence[int], device: torch.device) -> Tensor:
    """Copy a tensor in the host's memory, or numbers as a long one, to the device."""
    host = numbers if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=torch.long)
    if device.type == "cuda":
        # From pinned memory, which torch keeps until the copy is done.
        return host.pin_memory().to(device, non_blocking=True)
    return host.to(device)


def send(host: Tensor, target: Tensor) -> None:
    """Copy a tensor in the host's memory over one of its shape, on a device or not.

    Each call of torch gives Python's lock away, and may wait long to have it back where other
    threads compute: so what is sent together is better one tensor.
    """
    if target.device.type == "cuda":
        host = host.pin_memory()  # which torch keeps until the copy is done
    target.copy_(host, non_blocking=True)


@contextmanager
def capturing() -> Iterator[None]:
    """Keep all threads from giving memory back, which would break a capture for good."""
    with _allocator:
        yield


def graph_pool() -> Any:
    """A pool of memory for graphs that share it, to be made before they are captured.

    torch collects garbage before each capture: 0.6 s with all that a worker has imported. What is
    there by now is frozen: it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    return torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]  # torch's own


def captured(work: Callable[[], T], pool: Any) -> tuple[torch.cuda.CUDAGraph, T]:
    """Capture work on the current stream, which must not be the default one, and its result.

    It is run once before, for whatever is set up at a first run. `pool` is `graph_pool`'s.
    """
    work()
    graph = torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]  # torch's
    with (
        capturing(),
        torch.cuda.graph(
            graph,
            pool=pool,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",
        ),
    ):
        result = work()
    return graph, result


def holding(sizes: Sequence[int], wanted: int) -> int:
    """The smallest of the ascending sizes, for which work was captured, that holds `wanted`."""
    return next(size for size in sizes if wanted <= size)


def empty_cache() -> None:
    """Give the memory that torch keeps for reuse back to the device."""
    with _allocator:
        torch.cuda.empty_cache()


class Lane:
    """Runs work of many threads on a GPU, one after the other, in one thread and on one stream.

    cuDNN's plans, which take longer to make than to run, and cuBLAS' workspaces are kept for each
    thread anew.
    """

    def __init__(self, device: torch.device, name: str) -> None:
        self._stream = stream_on(device)
        self._thread = ThreadPoolExecutor(1, name)

    def do(self, work: Callable[[], T]) -> T:
        """Run `work` when all work before it is done, and give its result."""
        return self.start(work).result()

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Let `work` be done when all work before it is."""
        return self._thread.submit(self._do, work)

    def _do(self, work: Callable[[], T]) -> T:
        with on(self._stream):
            return work()
