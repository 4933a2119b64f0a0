"""The language model: a Qwen2 decoder with a KV cache, and nothing of sampling.

Shapes: B rows, S new positions, P positions of the cache, D hidden size, V vocabulary. Rows are
padded on the right: a padded position is written to the cache but never seen, because a query
attends only to keys at or before its own position, and the row's next real token overwrites it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.nn.utils.rnn import pad_sequence

from worker.errors import SetupError
from worker.speech.device import on_device
from worker.speech.lm.attention import (
    Attend,
    AttentionInputs,
    AttentionKernel,
    attention_for,
    causal_inputs,
)
from worker.speech.lm.config import LMConfig
from worker.speech.lm.interface import Logits
from worker.speech.lm.kv_cache import KVCache
from worker.speech.lm.rotary import rotary, rotate
from worker.speech.tensors import Uninitialised, read_tensors


class Attention(nn.Module):
    """Grouped-query attention with rotary positions and biases on q, k, v."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.heads = config.num_attention_heads, config.num_key_value_heads
        width = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, width)
        self.v_proj = nn.Linear(config.hidden_size, width)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.qkv_proj: nn.Linear | None = None  # the three in one, where they are joined

    def join(self) -> None:
        """Join the three matrices into one: on a GPU each operation of a step costs its launch."""
        self.qkv_proj = joined(self.q_proj, self.k_proj, self.v_proj)
        del self.q_proj, self.k_proj, self.v_proj

    def _project(self, x: Tensor) -> Tensor:
        """Map x [..., D] to queries, keys and values of all heads, one after the other."""
        if self.qkv_proj is not None:
            out: Tensor = self.qkv_proj(x)
            return out
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)

    def forward(self, x: Tensor, layer: int, cache: KVCache, shared: LayerInputs) -> Tensor:
        """Map x [B, S, D] to [B, S, D]."""
        b, s, _ = x.shape
        qkv = self._project(x).view(b, s, -1, self.head_dim)
        queries, keys = self.heads
        q_and_k, v = qkv.tensor_split([queries + keys], 2)
        q, k = rotate(q_and_k, shared.cos, shared.sin).tensor_split([queries], 2)
        y = shared.attend(q, k, v, cache.keys[layer], cache.values[layer], shared.attention)
        out: Tensor = self.o_proj(y.reshape(b, s, -1))
        return out


class FeedForward(nn.Module):
    """The SwiGLU feed-forward network."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.gate_up_proj: nn.Linear | None = None  # both in one, where they are joined

    def join(self) -> None:
        """Join gate and up into one matrix."""
        self.gate_up_proj = joined(self.gate_proj, self.up_proj)
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, S, D] to [B, S, D]."""
        if self.gate_up_proj is not None:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


def joined(*layers: nn.Linear) -> nn.Linear:
    """Make one layer whose outputs are those of all, one after the other."""
    weight = torch.cat([layer.weight for layer in layers])
    whole = nn.Linear(1, 1, bias=False)
    whole.out_features, whole.in_features = weight.shape
    whole.weight = nn.Parameter(weight, requires_grad=False)
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    if biases:
        whole.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return whole


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 whatever the weights are."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.hidden_size))
        self.eps = config.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., D] to [..., D]."""
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

    def forward(self, x: Tensor, layer: int, cache: KVCache, shared: LayerInputs) -> Tensor:
        """Map x [B, S, D] to [B, S, D]."""
        x = x + self.self_attn(self.input_layernorm(x), layer, cache, shared)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


@dataclass(frozen=True)
class LayerInputs:
    """What all layers of one forward share."""

    cos: Tensor  # [B, S, 1, head_dim]
    sin: Tensor
    attention: AttentionInputs
    attend: Attend


class LanguageModel(nn.Module):
    """The decoder with its embedding and output head; parameters named as in the published file."""

    attention: AttentionKernel
    in_parts = False

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype, device: torch.device) -> LanguageModel:
        """Load config.json and model.safetensors from a folder in the published layout.

        Raises SetupError naming tensors that are missing, unexpected or of another shape.
        """
        config = LMConfig.read(folder / "config.json")
        tensors = read_tensors(folder / "model.safetensors", dtype, device)
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        if config.tie_word_embeddings and not _has_own_head(tensors):
            tensors["lm_head.weight"] = tensors["embed_tokens.weight"]
        with Uninitialised():
            model = cls(config)
        try:
            model.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise SetupError(f"LLM/model.safetensors does not fit its config: {error}") from error
        del tensors  # or what is joined would be there twice
        model.attention = attention_for(device, dtype)
        model.eval().requires_grad_(requires_grad=False)
        if device.type == "cuda":
            model.join()
        return model

    def join(self) -> None:
        """Compute with fewer, larger matrices from now on: numbers differ in their last bits."""
        for layer in self.layers:
            layer.self_attn.join()
            layer.mlp.join()

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and of keys and values."""
        return self.norm.weight.dtype

    @property
    def masked(self) -> bool:
        """Whether a step's work grows with its `length`, whatever the rows' own lengths."""
        return self.attention.masked

    def new_cache(self, rows: int, positions: int) -> KVCache:
        """Make a cache for `rows` sequences of at most `positions` tokens."""
        return KVCache.empty(self.config, rows, positions, self.norm.weight)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        cache: KVCache,
        length: int,
        *,
        whole: bool = False,
    ) -> Tensor:
        """Compute hidden states [B, S, D] of ids [B, S] at positions [B, S], both long.

        `length` is how much of the cache is looked at, more than the greatest position. `whole`:
        the ids are all of each row, from position 0 on. The cache is written as it goes.
        """
        dtype = self.norm.weight.dtype
        cos, sin = (
            torch.cat((half, half), dim=-1)[:, :, None].to(dtype)
            for half in rotary(self.config, positions)
        )
        inputs = causal_inputs(positions, length, dtype, masked=self.masked, whole=whole)
        shared = LayerInputs(cos, sin, inputs, self.attention.attend)
        x = self.embed_tokens(ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, index, cache, shared)
        out: Tensor = self.norm(x)
        return out

    def prefill(
        self, prompts: Sequence[Sequence[int]], cache: KVCache, begins: Sequence[int] = ()
    ) -> Tensor:
        """Run each prompt into a row of the cache: the hidden states [rows, D] after their ends.

        Raises ValueError for parts of prompts, which begin elsewhere than at 0.
        """
        if any(begins):
            raise ValueError("prompts are read whole")
        ids = pad_sequence([torch.tensor(p) for p in prompts], batch_first=True)
        count = ids.shape[1]
        last = torch.tensor([[len(prompt) - 1] for prompt in prompts])
        # One copy: the device is not waited for.
        sent = on_device(torch.cat([ids, last], dim=1), self.device)
        ids, last = sent[:, :-1], sent[:, -1]
        positions = torch.arange(count, device=self.device).expand_as(ids)
        hidden: Tensor = self(ids, positions, cache, count, whole=True)
        return hidden[torch.arange(len(prompts), device=self.device), last]

    def step(self, ids: Tensor, positions: Tensor, cache: KVCache, length: int) -> Tensor:
        """Run one more token of each row, ids [B] at positions [B]: hidden states [B, D]."""
        hidden: Tensor = self(ids[:, None], positions[:, None], cache, length)
        return hidden[:, 0]

    def head(self, ids: Tensor) -> Logits:
        """Cut the output matrix to these tokens [n], in float32.

        In bfloat16 many logits would be equal, and which of these come first depends on how many
        are asked for.
        """
        weight = self.lm_head.weight[on_device(ids, self.device)].float()
        return lambda hidden: F.linear(hidden.float(), weight)


def _has_own_head(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head is another matrix than the embedding, or there is none to be tied to.

    A tied model is saved without its head. One that is there and differs is what the model spoke
    with when it was saved, whatever its config says; transformers 5 takes it, 4 does not.
    """
    embedding, head = (tensors.get(f"{name}.weight") for name in ("embed_tokens", "lm_head"))
    return embedding is None or (head is not None and not head.equal(embedding))
