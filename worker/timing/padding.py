"""A wav2vec 2.0 that hears a padded window as it hears the window by itself.

Its convolutions never see what follows, and its attention takes a mask. Models with
`feat_extract_norm: group`, as the published English one, have a norm over all of the time besides,
which transformers gives no mask; those with `layer`, as the published Chinese one, have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Samples [rows, n] and how many of each row are the window's -> logits [rows, frames, letters]
PaddedForward = Callable[[Tensor, Sequence[int]], Tensor]


class NormOverTime(nn.Module):
    """A norm of each channel over the time, of which each row may have its own length."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.frames: Tensor | None = None  # of each row [rows]; all where there is none

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [rows, channels, frames]; what is behind a row's own frames may be anything.

        In place where rows have their own lengths, for x is the greatest tensor of the model.
        """
        if self.frames is None:
            return self.norm(x)  # type: ignore[no-any-return] # torch's
        counts = self.frames[:, None, None]
        behind = torch.arange(x.shape[-1], device=x.device) >= counts
        x.masked_fill_(behind, 0)
        x.sub_(x.sum(-1, keepdim=True) / counts).masked_fill_(behind, 0)
        variance = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / counts
        scale = self.norm.weight[:, None] * torch.rsqrt(variance + self.norm.eps)
        return x.mul_(scale).add_(self.norm.bias[:, None])


def padded_forward(model: Any) -> PaddedForward | None:
    """How a Wav2Vec2ForCTC runs padded windows; None where they would not be heard the same.

    For one thread at a time. `model` itself goes on as it was.
    """
    config = model.config
    if config.add_adapter:  # convolutions behind the attention, which takes the mask no further
        return None
    first = model.wav2vec2.feature_extractor.conv_layers[0]
    norm = None
    if config.feat_extract_norm == "group":
        norm = first.layer_norm = NormOverTime(first.layer_norm)

    def forward(samples: Tensor, sizes: Sequence[int]) -> Tensor:
        own = torch.tensor(sizes)
        mask = (torch.arange(samples.shape[1]) < own[:, None]).long()
        if norm is not None:
            norm.frames = frames_of(own, config.conv_kernel[:1], config.conv_stride[:1])
            norm.frames = norm.frames.to(model.device)
        try:
            found = model(samples.to(model.device), attention_mask=mask.to(model.device))
        finally:
            if norm is not None:
                norm.frames = None
        logits: Tensor = found.logits
        return logits

    return forward


def frames_of(samples: Any, kernels: Sequence[int], strides: Sequence[int]) -> Any:
    """How many frames convolutions make of so many samples: a number, or a tensor of them."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples
