"""Tiny random wav2vec 2.0 models of the published forms, by transformers' own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16, 12, 12, 12, 12, 12, 20), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "vocab_size": 29, "initializer_range": 0.3,
}  # fmt: skip
# As the published models have it: facebook/wav2vec2-base-960h, XLSR's, which Chinese has, and the
# embedded aligner's; and one with an odd number of surroundings.
FORMS: dict[str, dict[str, Any]] = {
    "english": {
        "feat_extract_norm": "group",
        "do_stable_layer_norm": False,
        "conv_bias": False,
    },
    "chinese": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "embedded": {"feat_extract_norm": "group", "do_stable_layer_norm": True, "conv_bias": True},
    "odd": {
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": False,
        "conv_bias": False,
        "num_conv_pos_embeddings": 5,
    },
}


def tiny_model(form: str, **changes: Any) -> Wav2Vec2ForCTC:
    """A model that is not in training; no norm of it does nothing, no bias is nought."""
    torch.manual_seed(3)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**(SMALL | FORMS[form] | changes))).eval()
    for name, weights in model.named_parameters():
        if "layer_norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(weights, float(name.endswith("weight")), 0.2)
    return model


def save_aligner(folder: Path, form: str, alphabet: tuple[str, ...], **changes: Any) -> Path:
    """An alignment model's folder, as an installed one has it, for letters behind the blank."""
    model = tiny_model(form, vocab_size=len(alphabet) + 1, **changes)
    model.save_pretrained(folder)
    letters = {letter: index for index, letter in enumerate(("<pad>", *alphabet))}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    return folder


def with_old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm's factors under the names that torch gave them before it had parametrizations."""
    names = {
        ".parametrizations.weight.original0": ".weight_g",
        ".parametrizations.weight.original1": ".weight_v",
    }
    renamed = {}
    for name, tensor in tensors.items():
        for new, old in names.items():
            name = name.replace(new, old)  # noqa: PLW2901 - one of two, or neither
        renamed[name] = tensor
    return renamed
