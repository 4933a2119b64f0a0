"""Rotary positions, in Qwen2's half-split form."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x [B, S, heads, head_dim], in Qwen2's half-split form."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def rotary(config: LMConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Compute cosines and sines [..., head_dim / 2] of positions [...], in float32."""
    steps = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
    frequencies = 1.0 / config.rope_theta ** (steps / config.head_dim)
    angles = positions[..., None].float() * frequencies
    return angles.cos(), angles.sin()
