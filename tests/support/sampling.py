"""The sampling of rows that are drawn together, from what each was asked for."""

from __future__ import annotations

import torch

from worker.speech.batch.sampling import BatchSampling, Sampling


def together(*samplings: Sampling) -> BatchSampling:
    """Of one row each; of a single one, for as many rows as the logits have."""
    each = [sampling.without_exceptions() for sampling in samplings]
    return BatchSampling(
        torch.tensor([[temperature] for temperature, _, _ in each]),
        torch.tensor([[top_k] for _, top_k, _ in each]),
        torch.tensor([[top_p] for _, _, top_p in each]),
        max(top_k for _, top_k, _ in each),
    )
