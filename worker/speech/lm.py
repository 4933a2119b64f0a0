"""The language model: a Qwen2 decoder with a KV cache, and nothing of sampling.

Shapes: B rows, S new positions, T cached positions, D hidden size, V vocabulary. Rows are padded
on the right: a padded position is written to the cache but never seen, because a query attends
only to keys at or before its own position, and the row's next real token overwrites it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.errors import SetupError
from worker.speech.checkpoint import read_json, read_tensors

CACHE_BLOCK = 256  # positions by which a cache grows


@dataclass(frozen=True)
class LMConfig:
    """The sizes of a Qwen2 decoder, named as in its config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def read(cls, path: Path) -> LMConfig:
        """From config.json; raises SetupError for another architecture or a missing size."""
        raw = read_json(path)
        if raw.get("model_type") != "qwen2":
            raise SetupError(f"LLM/config.json: model_type is {raw.get('model_type')!r}, not qwen2")
        if raw.get("use_sliding_window") or raw.get("rope_scaling"):
            raise SetupError("LLM/config.json: sliding windows and rope scaling are not supported")
        try:
            return cls(**{name: raw[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise SetupError(f"LLM/config.json lacks {error}") from None


class KVCache:
    """Keys and values of every layer: [layers, B, kv heads, T, head_dim], T grown in blocks."""

    def __init__(self, config: LMConfig, rows: int, like: Tensor) -> None:
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, 0, config.head_dim)
        self.keys = like.new_empty(shape)
        self.values = like.new_empty(shape)

    def reserve(self, positions: int) -> None:
        """Make room for positions 0 to `positions` - 1."""
        have = self.keys.shape[3]
        if positions > have:
            more = -(-positions // CACHE_BLOCK) * CACHE_BLOCK - have
            # Zeros, not garbage: a masked key still meets the softmax's arithmetic, and 0 * NaN
            # is NaN.
            self.keys = F.pad(self.keys, (0, 0, 0, more))
            self.values = F.pad(self.values, (0, 0, 0, more))

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these: rows [n] long."""
        self.keys = self.keys[:, rows]
        self.values = self.values[:, rows]

    def write(self, layer: int, positions: Tensor, key: Tensor, value: Tensor) -> None:
        """Store key and value [B, kv heads, S, head_dim] at positions [B, S]."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = key.transpose(1, 2)
        self.values[layer][rows, :, positions] = value.transpose(1, 2)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and biases on q, k, v."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        width = self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, width)
        self.v_proj = nn.Linear(config.hidden_size, width)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, x: Tensor, layer: int, cache: KVCache, positions: Tensor, view: AttentionView
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        b, s, _ = x.shape
        q = self.q_proj(x).view(b, s, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, s, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, s, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, view.cos, view.sin), rotate(k, view.cos, view.sin)
        cache.write(layer, positions, k, v)
        y = F.scaled_dot_product_attention(
            q,
            cache.keys[layer][:, :, : view.length],
            cache.values[layer][:, :, : view.length],
            attn_mask=view.mask,
            enable_gqa=True,
        )
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(b, s, -1))
        return out


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 whatever the weights are."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size))
        self.eps = config.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


class Block(nn.Module):
    """One layer of the decoder."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config)
        self.mlp = FeedForward(config)

    def forward(
        self, x: Tensor, layer: int, cache: KVCache, positions: Tensor, view: AttentionView
    ) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        x = x + self.self_attn(self.input_layernorm(x), layer, cache, positions, view)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


@dataclass(frozen=True)
class AttentionView:
    """What all layers of one forward share."""

    cos: Tensor  # [B, 1, S, head_dim]
    sin: Tensor
    mask: Tensor  # [B, 1, S, length] bool, True where a query may look
    length: int  # cached positions in sight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, heads, S, head_dim], halves paired as in Qwen2."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class LanguageModel(nn.Module):
    """Qwen2: token ids to hidden states to logits."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype, device: torch.device) -> LanguageModel:
        """From config.json and model.safetensors in the published layout.

        Raises SetupError naming tensors that are missing, unexpected or of another shape.
        """
        config = LMConfig.read(folder / "config.json")
        tensors = read_tensors(folder / "model.safetensors", dtype, device)
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        if config.tie_word_embeddings and "embed_tokens.weight" in tensors:
            tensors["lm_head.weight"] = tensors["embed_tokens.weight"]
        with torch.device("meta"):
            model = cls(config)
        try:
            model.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise SetupError(f"LLM/model.safetensors does not fit its config: {error}") from error
        return model.eval().requires_grad_(requires_grad=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    def new_cache(self, rows: int) -> KVCache:
        """An empty cache for `rows` sequences."""
        return KVCache(self.config, rows, self.norm.weight)

    def forward(self, ids: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """Hidden states [B, S, D] of ids [B, S] at positions [B, S], both long.

        The cache must have room for the greatest position; it is written as it goes.
        """
        length = int(positions.max()) + 1
        cache.reserve(length)
        sight = torch.arange(length, device=ids.device)
        cos, sin = self._rotary(positions)
        view = AttentionView(
            cos=cos,
            sin=sin,
            mask=(sight <= positions[:, :, None])[:, None],
            length=length,
        )
        x = self.embed_tokens(ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, index, cache, positions, view)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] -> logits over the whole vocabulary [..., V]."""
        out: Tensor = self.lm_head(hidden)
        return out

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, S, head_dim] of positions [B, S], computed in float32."""
        dim = self.config.head_dim
        steps = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
        angles = positions[:, None, :, None].float() * (1.0 / self.config.rope_theta**steps)
        angles = torch.cat((angles, angles), dim=-1)
        dtype = self.norm.weight.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)
