"""Builds layers with plain weights in the place of weight norm's factors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

# For one thread alone: another one may build the same modules with their factors.
_PLAIN: ContextVar[bool] = ContextVar("plain weights are wanted", default=False)


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
