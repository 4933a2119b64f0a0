"""The worker's own kernels in a dry run: launches on tensors that pretend, run on the CPU.

They are those of tests/support/cuda_on_cpu, on the tensors' values. A launch is queued on the
current stream as any operation is; one that is captured runs at each replay.

Of a launch it is known which memory it is given and which of it the kernel writes (`WRITTEN`):
all of a tensor, whichever part. It is not seen whether a kernel keeps to that, nor whether one
that begins before the last has ended waits for what it needs; and memory that was freed too early
is seen only where someone else has it by then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

from tests.support.cuda_on_cpu import CpuLauncher
from tests.support.dry_gpu.streams import Gpu, Memory
from tests.support.dry_gpu.tensors import OnDevice
from worker.speech.cuda import codec, lm
from worker.speech.cuda.launcher import GpuLauncher

RESIDUAL = {"residual.values", "residual.weighted", "residual.squares.parts"}
# What the kernels of each structure write; what else they are given they read.
WRITTEN: dict[type[ctypes.Structure], set[str]] = {
    lm.Embed: RESIDUAL,
    lm.Project: {"queries", "pages.keys_values"},
    lm.Attend: {"out", "partial", "arrived"},
    lm.Add: RESIDUAL,
    lm.Gate: {"out"},
    lm.Finish: {"out"},
    lm.Score: {"logits"},
    lm.Draw: {"ids", "at", "drawn", "out"},
    codec.Snake: {"total", "out"},
}


class DryLauncher:
    """The kernels of one file on a dry GPU."""

    def __init__(self, gpu: Gpu, file: str = "lm") -> None:
        self._gpu = gpu
        self._kernels = CpuLauncher(file)
        self.processors = self._kernels.processors
        self.launches = 0  # those of replays among them

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: ctypes.Structure
    ) -> None:
        """Queue a kernel on the current stream."""
        given = type(arguments).from_buffer_copy(arguments)  # the launch's own, as the driver's is
        reads, writes = _memories(given)
        run = partial(self._run, name, grid, threads, given)
        self._gpu.ordered(reads, writes)
        if self._gpu.capturing is None:
            run()
        self._gpu.note(run, [], reads, writes)

    def _run(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: ctypes.Structure
    ) -> None:
        self.launches += 1
        self._kernels.launch(name, grid, threads, arguments)


@contextmanager
def fused_kernels(gpu: Gpu) -> Iterator[DryLauncher]:
    """The worker finds its kernels on this GPU; the language model's are given."""
    launchers = {file: DryLauncher(gpu, file) for file in ("lm", lm.INT8_FILE, "codec")}

    def opened(_device: object, file: str = "lm", *_more: object, **_named: object) -> DryLauncher:
        if file not in launchers:
            launchers[file] = DryLauncher(gpu, file)
        return launchers[file]

    with patch.object(GpuLauncher, "open", opened):
        yield launchers["lm"]


def _memories(arguments: ctypes.Structure) -> tuple[list[Memory], list[Memory]]:
    """What a launch reads alone, and what it writes; raises for what is no tensor's memory."""
    written = WRITTEN[type(arguments)]
    reads: list[Memory] = []
    writes: list[Memory] = []
    for path, address in _pointers(arguments):
        memory = OnDevice.known.get(address)
        if memory is None:
            raise AssertionError(f"{path} of {type(arguments).__name__} is nobody's memory")
        (writes if path in written else reads).append(memory)
    return [memory for memory in reads if memory not in writes], writes


def _pointers(structure: ctypes.Structure, path: str = "") -> Iterator[tuple[str, int]]:
    """All pointers of a structure that are not null, by their path within it."""
    for name, kind in structure._fields_:
        value = getattr(structure, name)
        if isinstance(value, ctypes.Structure):
            yield from _pointers(value, f"{path}{name}.")
        elif kind is ctypes.c_void_p and value:
            yield path + name, value
