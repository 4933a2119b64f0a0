"""The snake as one kernel of our own (cuda/codec.cu), in place of torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.speech.codec.wave_batch import After
from worker.speech.cuda.driver import INT, POINTER, Module
from worker.speech.cuda.open import open_module

EIGHT = 8  # numbers that a thread computes
_THREADS = 256
_SIGNATURE = (*(POINTER,) * 7, *(INT,) * 3)


class SnakeKernel:
    """`wave_batch.Snake` for bfloat16 on a GPU, for either order of channels and positions."""

    def __init__(self, module: Module) -> None:
        self._rows = module.function("snake_rows", _SIGNATURE)
        self._columns = module.function("snake_columns", _SIGNATURE)

    @classmethod
    def open(cls, device: torch.device) -> SnakeKernel | None:
        """Load it; None where it cannot be had."""
        module = open_module("codec", device)
        return None if module is None else cls(module)

    def __call__(
        self, made: Tensor, after: After, residual: Tensor | None, valid: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """See `wave_batch.Snake`. Channels and positions must be multiples of eight."""
        _, channels, _, positions = made.shape
        total = torch.empty_like(made) if after.summed else None
        out = torch.empty_like(made)
        pointers = [
            0 if tensor is None else tensor.data_ptr()
            for tensor in (made, after.bias, residual, after.alpha, valid, total, out)
        ]
        stream = torch.cuda.current_stream(made.device).cuda_stream
        if made.is_contiguous():
            eights = positions // EIGHT
            grid = -(-eights // _THREADS), channels, 1
            self._rows.launch(
                grid, (_THREADS, 1, 1), *pointers, channels, eights, after.rate, stream=stream
            )
        else:
            eights = channels // EIGHT
            grid = -(-eights * positions // _THREADS), 1, 1
            self._columns.launch(
                grid, (_THREADS, 1, 1), *pointers, eights, positions, after.rate, stream=stream
            )
        return total, out
