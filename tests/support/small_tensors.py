"""Tensors of each kind that a file may hold."""

from __future__ import annotations

import torch

TENSORS = {
    "half": torch.tensor([0.5, 1 / 3], dtype=torch.float16),
    "whole": torch.tensor([[1, 257], [70_001, -3]]),
    "single": torch.tensor([1 / 3]),
    "yes": torch.tensor([True, False]),
}
