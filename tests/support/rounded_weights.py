"""The language model in float32 on weights that are rounded as a GPU has them in int8."""

from __future__ import annotations

from pathlib import Path

import torch

from worker.speech.cuda import lm as kernels
from worker.speech.lm.fused_weights import rounded, shares
from worker.speech.lm.torch_model import LanguageModel


def with_rounded_weights(folder: Path) -> LanguageModel:
    """Load an LLM folder; the layers' matrices are rounded."""
    lm = LanguageModel.load(folder, torch.float32, torch.device("cpu"))
    for name, weight in lm.named_parameters():
        if weight.dim() == 2 and name.startswith("layers."):
            product = "add" if "o_proj" in name or "down_proj" in name else "gate"
            warps = kernels.warps_for(product, weight.shape[1])  # of "project" as many as of "gate"
            parts, scales = rounded(weight.bfloat16(), warps)  # the file is read as bfloat16
            weight.data = parts * scales[:, shares(weight, warps)]
    return lm
