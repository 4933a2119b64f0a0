"""Reads files of tensors to a device, and builds modules to put them into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from worker.model_files.tensors import map_tensors


def read_tensors(path: Path, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file, floating ones as `dtype`, to `device`.

    Raises SetupError naming the file when it is missing, cut short or not safetensors.
    """
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        for name, tensor in map_tensors(path).items()
    }


class Uninitialised(TorchFunctionMode):
    """Builds modules without initialising their weights, which files bring.

    `with Uninitialised(): model = ...` leaves weights as whatever memory holds. Memory that nobody
    writes is never taken. torch's meta device would do the same, but its functions import sympy,
    which takes two seconds.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, or give a weight back unfilled; buffers are computed as ever."""
        filled = args[0] if args else (kwargs or {}).get("tensor")
        if func in _FILLERS and isinstance(filled, torch.Tensor) and filled.requires_grad:
            return filled
        return func(*args, **(kwargs or {}))


# What torch's layers and upstream's init_weights fill new weights with.
_FILLERS = frozenset(
    {
        *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, nn.init.constant_),
        *(torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_),
        *(torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_),  # of a truncated normal
    }
)
