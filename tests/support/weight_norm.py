"""What a file of weights says of weight norm."""

from __future__ import annotations

from torch import Tensor

from worker.model_files.weight_norm import FACTORS


def is_weight_normed(tensors: dict[str, Tensor]) -> bool:
    """Whether any weight is given as its factors."""
    return any(name.endswith(tuple(magnitude for magnitude, _ in FACTORS)) for name in tensors)
