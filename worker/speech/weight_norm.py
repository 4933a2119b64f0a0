"""Weight norm: a weight given as magnitude and direction, and as the weight that they stand for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
FACTORS = (  # the names of a weight's magnitude and direction in torch's two forms
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def is_weight_normed(tensors: dict[str, Tensor]) -> bool:
    """Whether any weight is given as its factors."""
    return any(name.endswith(tuple(magnitude for magnitude, _ in FACTORS)) for name in tensors)


def fold(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace each pair of factors by the weight that they stand for; in float32, as at loading.

    A magnitude has the weight's shape with ones in all dimensions but the one that it normalises.
    """
    folded = dict(tensors)
    for magnitude, direction in FACTORS:
        for name in [name for name in tensors if name.endswith(magnitude)]:
            module = name.removesuffix(magnitude)
            g, v = folded.pop(name).float(), folded.pop(module + direction).float()
            dimension = next((d for d, size in enumerate(g.shape) if size > 1), 0)
            folded[f"{module}.weight"] = torch._weight_norm(v, g, dimension)  # noqa: SLF001 - torch's own formula has no public name
    return folded


@contextmanager
def built_folded(package: str) -> Iterator[None]:
    """Let the modules of `package` build their layers with plain weights, for folded tensors.

    To build them with factors and fold each afterwards takes longer than all the rest of it.
    """
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(f"{package}.") and hasattr(module, "weight_norm")
    ]
    theirs = [module.weight_norm for module in modules]
    for module in modules:
        module.weight_norm = _plain  # type: ignore[attr-defined] # a module's own global
    try:
        yield
    finally:
        for module, function in zip(modules, theirs, strict=True):
            module.weight_norm = function  # type: ignore[attr-defined] # as before


def _plain(module: Module) -> Module:
    return module
