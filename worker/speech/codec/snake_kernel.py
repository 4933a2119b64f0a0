"""The snake as one kernel of our own (cuda/codec.cu), in place of torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.speech.codec.wave_batch import After
from worker.speech.cuda import codec as kernels
from worker.speech.cuda.launcher import GpuLauncher
from worker.speech.cuda.lm import Launcher


class SnakeKernel:
    """`wave_batch.Snake` in bfloat16, for channels and positions that are multiples of eight."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    @classmethod
    def open(cls, device: torch.device) -> SnakeKernel | None:
        """Load it on a GPU; None where it cannot be had."""
        launcher = GpuLauncher.open(device, "codec", kernels.KERNELS, overlap=False)
        return None if launcher is None else cls(launcher)

    def __call__(
        self, made: Tensor, after: After, residual: Tensor | None, valid: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """See `wave_batch.Snake`. All tensors have their channels last, or all have not."""
        _, channels, _, positions = made.shape
        total = torch.empty_like(made) if after.summed else None
        out = torch.empty_like(made)
        tensors = made, after.bias, after.alpha, residual, valid, total, out
        pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
        arguments = kernels.Snake(*pointers, channels, positions, after.rate)
        if made.is_contiguous():
            blocks = -(-positions // (kernels.EIGHT * kernels.THREADS))
            name, grid = "snake_rows", (blocks, channels, 1)
        else:
            blocks = -(-channels * positions // (kernels.EIGHT * kernels.THREADS))
            name, grid = "snake_columns", (blocks, 1, 1)
        self._launcher.launch(name, grid, kernels.THREADS, arguments)
        return total, out
