"""Weight norm: folds a weight's magnitude and direction into the weight that they stand for."""

from __future__ import annotations

import torch
from torch import Tensor

FACTORS = (  # the names of a weight's magnitude and direction in torch's two forms
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def fold(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace each pair of factors by the weight that they stand for; in float32, as at loading.

    A magnitude has the weight's shape with ones in all dimensions but the one that it normalises.
    One without a direction stays as it is.
    """
    folded = dict(tensors)
    for magnitude, direction in FACTORS:
        modules = [n.removesuffix(magnitude) for n in tensors if n.endswith(magnitude)]
        for module in [module for module in modules if module + direction in tensors]:
            g, v = (folded.pop(module + factor).float() for factor in (magnitude, direction))
            dimension = next((d for d, size in enumerate(g.shape) if size > 1), 0)
            folded[f"{module}.weight"] = torch._weight_norm(v, g, dimension)  # noqa: SLF001 - torch's own formula has no public name
    return folded
