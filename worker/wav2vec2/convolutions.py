"""The convolutions of wav2vec 2.0: samples -> channels of frames of 20 ms.

They are products of shifted views, time before channels, so that no kernel is compiled or planned
for a length that has not been seen before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.wav2vec2.config import Wav2Vec2Config, frames_behind

CHUNK = 250  # frames that are made at a time, where that may be: their memory is bounded
EPSILON = 1e-5  # of the norms, whatever the config says of others


class Convolutions:
    """The feature extractor, with the network's tensors: weights [kernel, out, in]."""

    def __init__(self, config: Wav2Vec2Config, tensors: Mapping[str, Tensor]) -> None:
        self._config = config
        self._tensors = tensors

    def __call__(self, samples: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Make frames [rows, frames, channels] of samples [rows, n].

        Of each row the first samples, as many as `sizes` says, are heard as by themselves; what
        its frames behind those hold is nothing that should be used. A layer norm looks at one
        frame alone, so that frames can be made some at a time; a group norm looks at all of a row.
        """
        config = self._config
        if config.group_norm:
            return self._convolve(samples, sizes)
        field, hop = config.receptive_field, config.hop
        count = config.frames(samples.shape[1])
        chunks = [
            self._convolve(samples[:, start * hop : (min(start + CHUNK, count) - 1) * hop + field])
            for start in range(0, count, CHUNK)
        ]
        return torch.cat(chunks, 1)

    def _convolve(self, samples: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        config = self._config
        x = samples[..., None]
        for i, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True)):
            name = f"feature_extractor.conv_layers.{i}."
            bias = self._tensors.get(name + "conv.bias")
            x = _convolution(x, self._tensors[name + "conv.weight"], bias, stride)
            if config.group_norm and i:
                x = F.gelu(x)
                continue
            scale, shift = (self._tensors[f"{name}layer_norm.{w}"] for w in ("weight", "bias"))
            if config.group_norm:
                frames = sizes and [frames_behind((kernel,), (stride,), size) for size in sizes]
                x = _norm_over_time(x, scale, shift, frames)
            else:
                x = F.layer_norm(x, scale.shape, scale, shift, EPSILON)
            x = F.gelu(x)
        return x


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve x [rows, time, in] with a weight [kernel, out, in]: [rows, frames, out]."""
    kernel = len(weight)
    if x.shape[2] == 1:
        return F.linear(x[..., 0].unfold(1, kernel, stride), weight[..., 0].T, bias)
    end = stride * ((x.shape[1] - kernel) // stride) + 1
    taps = [x[:, tap : tap + end : stride] for tap in range(kernel)]
    if len(x) == 1:  # products of matrices with gaps between their rows: no view is copied
        alone = F.linear(taps[0][0], weight[0], bias)
        for view, matrix in zip(taps[1:], weight[1:], strict=True):
            alone.addmm_(view[0], matrix.T)
        return alone[None]
    y = F.linear(taps[0], weight[0], bias)
    for view, matrix in zip(taps[1:], weight[1:], strict=True):
        y.baddbmm_(view, matrix.T.expand(len(y), -1, -1))
    return y


def _norm_over_time(
    x: Tensor, scale: Tensor, shift: Tensor, frames: Sequence[int] | None
) -> Tensor:
    """Normalise each channel of x [rows, time, channels] over the time.

    Of each row over its own `frames`, where these are given. In place, for x is the greatest tensor
    of all; and as it lies, which torch's own group norm would turn over.
    """
    counts: Tensor | int = x.shape[1]
    behind = None
    if frames is not None:
        counts = torch.tensor(frames, device=x.device)[:, None, None]
        behind = torch.arange(x.shape[1], device=x.device)[:, None] >= counts
        x.masked_fill_(behind, 0)
    x.sub_(x.sum(1, keepdim=True) / counts)
    if behind is not None:
        x.masked_fill_(behind, 0)
    variance = torch.linalg.vector_norm(x, dim=1, keepdim=True).square() / counts
    return torch.addcmul(shift, x, scale * torch.rsqrt(variance + EPSILON), out=x)
