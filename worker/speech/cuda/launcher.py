"""Launches the language model's kernels on a GPU, on torch's current stream."""

from __future__ import annotations

import ctypes

import torch

from worker.speech.cuda.driver import Module
from worker.speech.cuda.lm import KERNELS
from worker.speech.cuda.open import open_module

OVERLAPPING = (9, 0)  # from this compute capability on, a kernel may begin before another has ended


class GpuLauncher:
    """lm.cu's kernels, loaded on a GPU."""

    def __init__(self, module: Module, device: torch.device, *, overlap: bool) -> None:
        """With `overlap` each kernel reads its first weights while the one before still runs."""
        self._functions = {name: module.function(name, ()) for name in KERNELS}
        self._device = device
        self._overlap = overlap
        self.processors = torch.cuda.get_device_properties(device).multi_processor_count

    @classmethod
    def open(cls, device: torch.device) -> GpuLauncher | None:
        """For this GPU; None, and an event, where it cannot run them."""
        module = open_module("lm", device)
        if module is None:
            return None
        overlap = torch.cuda.get_device_capability(device) >= OVERLAPPING
        return cls(module, device, overlap=overlap)

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: ctypes.Structure
    ) -> None:
        """Launch a kernel over a grid of blocks of so many threads."""
        stream = torch.cuda.current_stream(self._device).cuda_stream
        self._functions[name].launch_with(
            grid, (threads, 1, 1), arguments, stream=stream, overlap=self._overlap
        )
