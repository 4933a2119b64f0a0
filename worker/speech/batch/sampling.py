"""Draws the next tokens: pure functions on logits, by the same rules as transformers' warpers.

Randomness comes in as numbers: one uniform draw for each row and step, made before the first step
from a generator of its own. So a row's tokens do not depend on its neighbours, and nothing
is synchronised with the host.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

ALL = 1 << 30  # a top_k that leaves nothing out


@dataclass(frozen=True)
class Sampling:
    """How to draw. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 leave nothing out."""

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    max_tokens: int = 3000
    seed: int = 0
    min_tokens: int = 0  # of an answer, before which it cannot end

    def without_exceptions(self) -> tuple[float, int, float]:
        """Temperature, top-k and top-p in numbers that all sequences can be drawn by alike."""
        if self.temperature == 0:  # the most likely one, at any temperature
            return 1.0, 1, 1.0
        return self.temperature, self.top_k or ALL, self.top_p


@dataclass
class BatchSampling:
    """The sampling of each row of logits, where they are: [rows, 1] each, without exceptions."""

    temperature: Tensor  # float32, above 0
    top_k: Tensor  # long, 1 and above
    top_p: Tensor  # float32, above 0
    most: int  # no row's top_k is greater


def row_uniforms(seed: int, row: str, count: int) -> Tensor:
    """`count` uniform draws in [0, 1) of the row named `row`: float64 [count], on the CPU."""
    digest = hashlib.blake2b(f"{seed}/{row}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def candidates(logits: Tensor, sampling: BatchSampling) -> tuple[Tensor, Tensor]:
    """What may be drawn, most likely first.

    `logits` [rows, n] -> probabilities [rows, k] (each row sums to 1, tokens left out have 0) and
    the positions [rows, k] that they belong to. Temperature, then top-k, then top-p, in the order
    and with the rules of transformers' logits warpers; at least one candidate is always left.
    """
    k = min(sampling.most, logits.shape[-1])
    values, positions = torch.topk(logits.float(), k)  # [rows, k], sorted
    rank = torch.arange(k, device=logits.device)
    values = (values / sampling.temperature).masked_fill(rank >= sampling.top_k, float("-inf"))
    probabilities = values.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # mass of the more likely ones
    # The first is always left; and what lies beyond 1 does so by rounding alone.
    out = (before >= sampling.top_p) & (rank > 0) & (sampling.top_p < 1)
    probabilities = probabilities.masked_fill(out, 0.0)
    return probabilities / probabilities.sum(-1, keepdim=True), positions


def draw(logits: Tensor, sampling: BatchSampling, uniform: Tensor) -> Tensor:
    """Draw one position for each row: logits [rows, n], uniform [rows] -> positions [rows].

    A row whose logits leave nothing that could be drawn (NaN among them) gets -1.
    """
    probabilities, positions = candidates(logits, sampling)
    edges = probabilities.double().cumsum(-1)  # [rows, k]
    chosen = (edges <= uniform.to(edges)[:, None]).sum(-1)
    # Rounding may leave the last edge just below 1: stay within what has any probability.
    last = (probabilities > 0).sum(-1) - 1
    drawn = positions.gather(-1, torch.minimum(chosen, last).clamp(min=0)[:, None])[:, 0]
    return torch.where(last < 0, -1, drawn)
