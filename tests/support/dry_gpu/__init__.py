"""A dry run of code for CUDA where there is no GPU: its tensors are on the CPU and pretend.

    with dry_gpu() as gpu:
        engine = Engine.load(folder, "bfloat16", "cuda")
        with gpu.unsynchronised():
            ...

A tensor on "cuda" is an `OnDevice` (tensors.py): every operation on it computes real values on the
CPU, after looking at where its operands are. torch.cuda's streams, events and graphs are stand-ins
(streams.py); a captured graph is a tape of its operations, which a replay runs again on the same
memory. All threads that begin within the block are part of it. torch's own FakeTensorMode is not
used: torch 2.6's asks the driver for some operations, and it knows neither copies nor streams.

What it sees:
- operands on different devices, also those that a CPU would mix without a word;
- whatever makes the host wait for the device: values read (`.item()`, `if tensor`, `.tolist()`,
  `.cpu()`), indexing by a list or a mask, results whose shape depends on values, and copies that
  are blocking or of memory that is not pinned; each is noted, and an error within
  `unsynchronised()` and within a capture;
- shapes, dtypes and memory formats that the operation or flash-attn's documented contract
  (flash.py) refuses;
- a graph that depends on a value of Python's at its capture, since its replay has the old one; a
  result of a graph that is read after another replay of its pool;
- an operation that uses what another stream has written, or writes what another reads, without an
  event, a wait or a synchronisation in between.

What it cannot see: whether CUDA, cuDNN or cuBLAS has a kernel for the operation, and what that
rounds to; how long anything takes; how much memory there is, and memory that the allocator hands
to another stream while it is in use; pinned memory that the host reads or writes before its copy
has run; the order of threads that a real machine would come upon; anything inside a kernel,
flash-attn's above all. An index out of range raises here, and there ends the process's use of the
GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from tests.support.dry_gpu.flash import flash_attention
from tests.support.dry_gpu.streams import Gpu, RaceError, SynchronisedError
from tests.support.dry_gpu.tensors import Functions, OnDevice, Operations

__all__ = ["Gpu", "OnDevice", "RaceError", "SynchronisedError", "dry_gpu", "flash_attention"]


@contextmanager
def dry_gpu(free: int = 8 << 30, total: int = 24 << 30) -> Iterator[Gpu]:
    """A GPU with so many bytes of memory, in this thread and those that begin meanwhile."""
    gpu = Gpu(free, total)
    run = threading.Thread.run

    def run_with_it(thread: threading.Thread) -> None:
        with Functions(gpu), Operations(gpu):
            run(thread)

    with (
        patch.multiple(torch.cuda, **gpu.functions()),
        patch.object(threading.Thread, "run", run_with_it),
        # It would compile kernels for each length of a convolution, up to a minute for one.
        torch.backends.mkldnn.flags(enabled=False),
        Functions(gpu),
        Operations(gpu),
    ):
        yield gpu
