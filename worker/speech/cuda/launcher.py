"""Launches kernels on a GPU, on torch's current stream."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch

from worker.speech.cuda.driver import Module
from worker.speech.cuda.lm import KERNELS
from worker.speech.cuda.open import open_module

OVERLAPPING = (9, 0)  # from this compute capability on, a kernel may begin before another has ended


class GpuLauncher:
    """The kernels of one file, loaded on a GPU."""

    def __init__(
        self,
        module: Module,
        device: torch.device,
        names: Iterable[str] = KERNELS,
        *,
        overlap: bool,
    ) -> None:
        """With `overlap` each kernel begins while the one before still runs, and waits for it."""
        self._functions = {name: module.function(name) for name in names}
        self._device = device
        self._overlap = overlap
        self.processors = torch.cuda.get_device_properties(device).multi_processor_count

    @classmethod
    def open(
        cls,
        device: torch.device,
        file: str = "lm",
        names: Iterable[str] = KERNELS,
        *,
        overlap: bool = True,
    ) -> GpuLauncher | None:
        """The kernels of FILE.cu for this GPU; None, and an event, where it cannot run them.

        Those that may `overlap` do so where the GPU can.
        """
        module = open_module(file, device)
        if module is None:
            return None
        can = torch.cuda.get_device_capability(device) >= OVERLAPPING
        return cls(module, device, names, overlap=overlap and can)

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: ctypes.Structure
    ) -> None:
        """Launch a kernel over a grid of blocks of so many threads."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        block = threads, 1, 1
        self._functions[name].launch(grid, block, arguments, stream=stream, overlap=self._overlap)
