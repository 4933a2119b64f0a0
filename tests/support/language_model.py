"""A small random Qwen2 decoder in its published files, and what it computes, in plain numpy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from worker.speech.lm.config import LMConfig

SMALL: dict[str, Any] = {
    "model_type": "qwen2", "vocab_size": 40, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 40, "rms_norm_eps": 1e-6, "rope_theta": 100.0,
    "tie_word_embeddings": True,
}  # fmt: skip


def make_tensors(**changes: Any) -> dict[str, Tensor]:
    """Random weights, float32, under their published names; norms and biases too."""
    config = config_of(**changes)
    hidden, inner = config.hidden_size, config.intermediate_size
    width = config.num_key_value_heads * config.head_dim
    generator = torch.Generator().manual_seed(7)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (1.5 / shape[-1] ** 0.5)

    tensors = {"model.embed_tokens.weight": torch.randn(40, hidden, generator=generator)}
    tensors["model.norm.weight"] = 1 + 0.3 * torch.randn(hidden, generator=generator)
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}{norm}.weight"] = 1 + 0.3 * torch.randn(hidden, generator=generator)
        for part, outputs in (("q", hidden), ("k", width), ("v", width)):
            tensors[f"{name}self_attn.{part}_proj.weight"] = some(outputs, hidden)
            tensors[f"{name}self_attn.{part}_proj.bias"] = torch.randn(outputs, generator=generator)
        tensors[f"{name}self_attn.o_proj.weight"] = some(hidden, hidden)
        tensors[f"{name}mlp.gate_proj.weight"] = some(inner, hidden)
        tensors[f"{name}mlp.up_proj.weight"] = some(inner, hidden)
        tensors[f"{name}mlp.down_proj.weight"] = some(hidden, inner)
    if not config.tie_word_embeddings:
        tensors["lm_head.weight"] = some(40, hidden)
    return tensors


def config_of(**changes: Any) -> LMConfig:
    """SMALL with some changes."""
    raw = SMALL | changes
    return LMConfig(**{name: raw[name] for name in raw if name != "model_type"})


def write_model(folder: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    """config.json and model.safetensors in `folder`, which is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SMALL | changes))
    save_file(tensors, folder / "model.safetensors")
    return folder


def hidden_states(
    tensors: dict[str, Tensor], config: LMConfig, ids: Sequence[int]
) -> NDArray[np.float64]:
    """After each of the tokens, in float64: Qwen2's formulas, a token and a head at a time."""
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    heads, dim = config.num_attention_heads, config.head_dim
    shared = heads // config.num_key_value_heads

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + config.rms_norm_eps) * weights[name]

    def turned(x: NDArray[np.float64], position: int) -> NDArray[np.float64]:
        """A head's first half and second half as complex numbers, each turned by its angle."""
        angles = position * config.rope_theta ** (-2 * np.arange(dim // 2) / dim)
        z = (x[: dim // 2] + 1j * x[dim // 2 :]) * np.exp(1j * angles)
        return np.concatenate([z.real, z.imag])

    x = weights["model.embed_tokens.weight"][list(ids)]
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        y = norm(x, name + "input_layernorm.weight")
        q, k, v = (
            (y @ weights[f"{name}self_attn.{p}_proj.weight"].T)
            + weights[f"{name}self_attn.{p}_proj.bias"]
            for p in "qkv"
        )
        out = np.zeros_like(q)
        for head in range(heads):
            here, there = (
                slice(h * dim, (h + 1) * dim) for h in (head, head // shared)
            )  # the head's own channels, and those of the keys that it shares
            for t in range(len(ids)):
                query = turned(q[t, here], t)
                scores = [query @ turned(k[s, there], s) / np.sqrt(dim) for s in range(t + 1)]
                share = np.exp(scores - np.max(scores))
                out[t, here] = (share / share.sum()) @ v[: t + 1, there]
        x = x + out @ weights[name + "self_attn.o_proj.weight"].T
        y = norm(x, name + "post_attention_layernorm.weight")
        gate = y @ weights[name + "mlp.gate_proj.weight"].T
        up = y @ weights[name + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[name + "mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight")
