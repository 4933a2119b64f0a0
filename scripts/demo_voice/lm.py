"""The language model in training: a Qwen2 decoder whose embedding knows what its tokens mean.

A code's vector is the sum of its symbol's, its pitch's and a small one of its own; a pitch value's
is a smooth function of the value, so that values never met in training are understood. Exported,
both are rows of one plain table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from scripts.demo_voice import codes, vocabulary

BFLOAT16 = torch.bfloat16


@dataclass(frozen=True)
class Sizes:
    """Of the decoder, named as in its config.json."""

    hidden_size: int = 160
    intermediate_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 5
    num_key_value_heads: int = 5
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 4096

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden_size // self.num_attention_heads


class Embedding(nn.Module):
    """The table of all tokens' vectors [V, D], in parts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.plain = nn.Parameter(torch.randn(vocabulary.FIRST_CODE, width) * 0.05)
        self.symbols = nn.Parameter(torch.randn(len(codes.SYMBOLS), width) * 0.05)
        self.pitches = nn.Parameter(torch.randn(len(codes.PITCHES), width) * 0.05)
        self.own = nn.Parameter(torch.zeros(codes.CODES, width))
        places = torch.arange(vocabulary.PITCH_VALUES)[:, None] / 100
        waves = places * torch.logspace(-1, 1, 12)[None] * math.pi
        table = torch.cat([torch.ones_like(places), places, waves.sin(), waves.cos()], 1)
        self.register_buffer("waves", table, persistent=False)
        self.values = nn.Parameter(torch.randn(table.shape[1], width) * 0.02)

    def forward(self) -> Tensor:
        """The table."""
        units = self.symbols[:, None] + self.pitches[None]
        return torch.cat([self.plain, units.flatten(0, 1) + self.own, self.waves @ self.values])


class Block(nn.Module):
    """One layer; forward is `block`, compiled."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, kv = sizes.hidden_size, sizes.num_key_value_heads * sizes.head_dim
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, kv)
        self.v = nn.Linear(width, kv)
        self.o = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, sizes.intermediate_size, bias=False)
        self.up = nn.Linear(width, sizes.intermediate_size, bias=False)
        self.down = nn.Linear(sizes.intermediate_size, width, bias=False)
        self.before_attention = nn.Parameter(torch.ones(width))
        self.before_mlp = nn.Parameter(torch.ones(width))
        for layer in (self.o, self.down):
            nn.init.zeros_(layer.weight)


class LanguageModel(nn.Module):
    """Ids [B, T] -> logits [n, V] of the n positions that are asked for."""

    def __init__(self, sizes: Sizes, compiled: bool = True) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = Embedding(sizes.hidden_size)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(sizes.hidden_size))
        half = sizes.head_dim // 2
        turns = 1.0 / sizes.rope_theta ** (torch.arange(half) / half)
        angles = torch.outer(torch.arange(2048).float(), turns).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        # One graph for each length of rows; without gradients it is not worth another one.
        torch._dynamo.config.cache_size_limit = 64  # noqa: SLF001 - documented under this name
        self._block = torch.compile(block, dynamic=False) if compiled else block

    def forward(self, ids: Tensor, asked: Tensor) -> Tensor:
        """Logits in bfloat16, where `asked` [B, T] is true."""
        table = self.embedding()
        hidden = F.embedding(ids, table).to(BFLOAT16)
        turn = (self.cos[: ids.shape[1]].to(BFLOAT16), self.sin[: ids.shape[1]].to(BFLOAT16))
        step = self._block if torch.is_grad_enabled() else block
        for layer in self.blocks:
            hidden = step(layer, self.sizes, hidden, *turn)
        return F.linear(rms_norm(hidden[asked], self.norm), table.to(BFLOAT16))

    def exported(self) -> dict[str, Tensor]:
        """The weights under transformers' names."""
        tensors = {"model.embed_tokens.weight": self.embedding(), "model.norm.weight": self.norm}
        for number, layer in enumerate(self.blocks):
            root = f"model.layers.{number}."
            for name in ("q", "k", "v"):
                linear = getattr(layer, name)
                tensors[f"{root}self_attn.{name}_proj.weight"] = linear.weight
                tensors[f"{root}self_attn.{name}_proj.bias"] = linear.bias
            tensors[f"{root}self_attn.o_proj.weight"] = layer.o.weight
            for name in ("gate", "up", "down"):
                tensors[f"{root}mlp.{name}_proj.weight"] = getattr(layer, name).weight
            tensors[f"{root}input_layernorm.weight"] = layer.before_attention
            tensors[f"{root}post_attention_layernorm.weight"] = layer.before_mlp
        return {name: tensor.detach() for name, tensor in tensors.items()}


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Qwen2's, computed in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * weight).to(x.dtype)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def block(layer: Block, sizes: Sizes, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One layer: hidden [B, T, D] -> the same."""
    rows, length, width = hidden.shape
    x = rms_norm(hidden, layer.before_attention)
    q, k, v = (
        _linear(part, x).view(rows, length, -1, sizes.head_dim).transpose(1, 2)
        for part in (layer.q, layer.k, layer.v)
    )
    q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
    groups = sizes.num_attention_heads // sizes.num_key_value_heads
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    hidden = hidden + _linear(layer.o, seen.transpose(1, 2).reshape(rows, length, width))
    x = rms_norm(hidden, layer.before_mlp)
    return hidden + _linear(layer.down, F.silu(_linear(layer.gate, x)) * _linear(layer.up, x))
