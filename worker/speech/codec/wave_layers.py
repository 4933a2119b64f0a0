"""The layers of upstream's wave generator, in order, for whoever computes them otherwise.

Upstream's module stays the description. Its order: a convolution; blocks of a snake, a transposed
convolution and residual units of (snake, convolution, snake, convolution); a snake, a convolution,
a hyperbolic tangent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.speech.native.wave import ADD, INSIDE, SPEAK, START


@dataclass(frozen=True)
class WaveLayer:
    """A convolution, what becomes of its sums, and the snake behind it."""

    what: int  # SPEAK, START, INSIDE or ADD
    module: Any  # an nn.Conv1d or nn.ConvTranspose1d with plain weights
    alpha: Tensor  # [1, C, 1] of the snake; nobody's where the last layer speaks


def walk(generator: Any) -> list[WaveLayer]:
    """List the layers of upstream's generator. Raises ValueError where it is built otherwise."""
    modules = list(generator.model)
    steps: list[tuple[int | None, Any]] = [(INSIDE, modules[0])]
    for module in modules[1:-3]:
        snake, transposed, *units = module.block
        steps += [(None, snake), (START, transposed)]
        for unit in units:
            first, wide, second, narrow = unit.block
            steps += [(None, first), (INSIDE, wide), (None, second), (ADD, narrow)]
    steps += [(None, modules[-3]), (SPEAK, modules[-2])]
    if not isinstance(modules[-1], nn.Tanh):
        raise ValueError(  # noqa: TRY004 - of the weights, not of an argument
            "the wave generator does not end in a hyperbolic tangent"
        )
    layers = [
        WaveLayer(what, module, torch.ones(1) if what == SPEAK else steps[place + 1][1].alpha)
        for place, (what, module) in enumerate(steps)
        if what is not None
    ]
    for layer in layers:
        _check_length(layer.module)
    return layers


def _check_length(module: Any) -> None:
    """Raise ValueError unless a convolution leaves the length, or multiplies it by its stride."""
    taps, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
    if isinstance(module, nn.ConvTranspose1d):
        if taps - 2 * padding != stride:
            raise ValueError("a transposed convolution does not just multiply the length")
    elif stride != 1 or 2 * padding != module.dilation[0] * (taps - 1):
        raise ValueError("a convolution changes the length")
