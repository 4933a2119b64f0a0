"""Weight norm: folds a weight's magnitude and direction into the weight that they stand for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

# For one thread alone: another one may build the same modules with their factors.
_PLAIN: ContextVar[bool] = ContextVar("plain weights are wanted", default=False)
FACTORS = (  # the names of a weight's magnitude and direction in torch's two forms
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


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
    """Let this thread build the layers of `package` with plain weights, for folded tensors.

    To build them with factors and fold each afterwards takes longer than all the rest of it.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}.") and hasattr(module, "weight_norm"):
            theirs = module.weight_norm
            if not isinstance(theirs, _Choice):
                module.weight_norm = _Choice(theirs)  # type: ignore[attr-defined] # its global
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


class _Choice:
    """A module's weight_norm, which does nothing where plain weights are wanted."""

    def __init__(self, theirs: Callable[..., Any]) -> None:
        self._theirs = theirs

    def __call__(self, module: nn.Module, *given: Any, **named: Any) -> Any:
        return module if _PLAIN.get() else self._theirs(module, *given, **named)
