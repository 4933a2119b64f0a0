"""BiCodec's wave generator on a GPU, over the features of many chunks that lie in one sequence.

Between two chunks lies a gap of positions that belong to nobody. A convolution sees zeros there,
as it does beyond the ends of a sequence: what a snake gives is zeroed in the gaps, and all
convolutions but the first, whose input has zeros there, read what a snake gave.

Upstream's module stays the description (wave_layers.py). Between two convolutions stands one
operation (`Snake`): it adds the bias and what the layer is added to, and gives the sum, and the
snake of the sum. Tensors are [1, C, 1, T], so that cuDNN may have the channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.codec.wave_layers import walk
from worker.speech.native.wave import ADD, INSIDE, SPEAK


@dataclass(frozen=True)
class After:
    """What follows a convolution."""

    bias: Tensor  # [C]
    alpha: Tensor  # [C], of the snake
    rate: int  # positions of a token
    summed: bool  # whether the sum is needed too, for a later layer to be added to


class Snake(Protocol):
    """Gives of a convolution's outputs [1, C, 1, T] the sum, where it is needed, and its snake.

    The sum is the outputs, the bias and `residual`, where there is one; the snake of x is
    x + sin(alpha x)^2 / (alpha + 1e-9), and zero where `valid` [T / rate], a token's, is not set.
    """

    def __call__(
        self, made: Tensor, after: After, residual: Tensor | None, valid: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Compute it."""
        ...


def snake(
    made: Tensor, after: After, residual: Tensor | None, valid: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Compute it with torch's operations, each of which rounds."""
    total = made + after.bias[:, None, None]
    if residual is not None:
        total = total + residual
    alpha = after.alpha[:, None, None]
    wave = total + (alpha + 1e-9).reciprocal() * torch.sin(alpha * total).square()
    gaps = valid.logical_not()[:, None].expand(-1, after.rate).reshape(-1)
    return total if after.summed else None, wave.masked_fill(gaps, 0)


@dataclass(frozen=True)
class _Layer:
    what: int
    convolve: Callable[[Tensor], Tensor]  # without its bias
    after: After


class WaveBatch:
    """Turns the features of chunks in one sequence into their samples."""

    def __init__(
        self,
        generator: Any,
        dtype: torch.dtype,
        snake: Snake = snake,
        *,
        channels_last: bool = False,
        products: bool = False,
    ) -> None:
        """`generator` is upstream's, folded, in `dtype`. Raises ValueError where it is otherwise.

        With `channels_last` the channels of a position lie together. With `products`, convolutions
        of one tap are matrix products in place of cuDNN's.
        """
        self._dtype = dtype
        self._snake = snake
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.rate = 1  # samples of a token
        layers = walk(generator)
        self._layers: list[_Layer] = []
        for place, layer in enumerate(layers):
            self.rate *= layer.module.stride[0]
            after = After(
                bias=layer.module.bias,
                alpha=layer.alpha.flatten(),
                rate=self.rate,
                summed=layer.what not in {INSIDE, SPEAK} and layers[place + 1].what == INSIDE,
            )
            convolve = _convolution(layer.module, self._format, products=products)
            self._layers.append(_Layer(layer.what, convolve, after))

    def __call__(self, features: Tensor, valid: Tensor) -> Tensor:
        """Turn features [1, C, n], zero in the gaps, into samples float32 [rate * n].

        `valid` [n] is set where a position is not in a gap.
        """
        x = features.to(self._dtype)[:, :, None].contiguous(memory_format=self._format)
        total: Tensor | None = None
        for layer in self._layers[:-1]:
            residual = total if layer.what == ADD else None
            made = layer.convolve(x).contiguous(memory_format=self._format)
            summed, x = self._snake(made, layer.after, residual, valid)
            total = total if summed is None else summed
        last = self._layers[-1]
        made = last.convolve(x) + last.after.bias[:, None, None]
        return torch.tanh(made).flatten().float()


def _convolution(
    module: Any, memory_format: torch.memory_format, *, products: bool
) -> Callable[[Tensor], Tensor]:
    """Give the convolution without its bias, on [1, C, 1, T]."""
    weight = module.weight[:, :, None].contiguous(memory_format=memory_format)
    padding = (0, int(module.padding[0]))
    if isinstance(module, nn.ConvTranspose1d):
        stride = (1, module.stride[0])
        return lambda x: F.conv_transpose2d(x, weight, None, stride, padding)
    dilation = (1, module.dilation[0])
    if not products or module.kernel_size[0] > 1:
        return lambda x: F.conv2d(x, weight, None, 1, padding, dilation)
    matrix = module.weight[:, :, 0].contiguous()  # [outputs, inputs]
    if memory_format == torch.channels_last:
        return lambda x: F.linear(x[0, :, 0].t(), matrix).t()[None, :, None]
    return lambda x: (matrix @ x[0, :, 0])[None, :, None]
