"""Attention over the cache: by flash-attn where it is installed, else by torch's own.

Shapes: B rows, S new positions, P positions of the cache, H query heads, K key and value heads
(H a multiple of K), D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it


@dataclass(frozen=True)
class AttentionInputs:
    """What attention needs to know of a forward's tokens; all layers share it."""

    positions: Tensor  # long [B, S]: of the new tokens, one after the other in each row
    rows: Tensor  # long [B, 1]: 0, 1, ...
    before: Tensor  # int32 [B]: positions of each row that are in the cache already
    length: int  # of the cache that is looked at: more than the greatest position
    bias: Tensor | None  # [B, 1, S, length], 0 or minus infinity; None where no kernel reads it


# Queries, new keys and values [B, S, H or K, D], the layer's cache of both [B, P, K, D] -> [B, S,
# H, D]. The new keys and values are in the cache afterwards.
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, AttentionInputs], Tensor]


@dataclass(frozen=True)
class AttentionKernel:
    """A way to compute attention."""

    attend: Attend
    masked: bool  # reads all of `length` with a bias; else of each row what it has


def causal_inputs(
    positions: Tensor, length: int, dtype: torch.dtype, *, masked: bool = True, whole: bool = False
) -> AttentionInputs:
    """Let each new token, at positions [B, S], attend to the positions up to its own.

    `masked` is the kernel's; `whole`: the new tokens are all that there is of each row, from
    position 0 on.
    """
    device = positions.device
    rows = torch.arange(len(positions), device=device)[:, None]
    bias = None
    if masked and not whole:
        every = torch.arange(length, device=device)
        hidden = every > positions[:, :, None]
        bias = torch.zeros(hidden.shape, dtype=dtype, device=device)
        bias = bias.masked_fill(hidden, float("-inf"))[:, None]
    return AttentionInputs(positions, rows, positions[:, 0].to(torch.int32), length, bias)


def attention_for(device: torch.device, dtype: torch.dtype) -> AttentionKernel:
    """Choose the fastest kernel that this device and weights of this type can use."""
    if device.type == "cuda":
        # cuDNN's would come first where there is a bias, and plans for each new length.
        torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    halves = dtype in {torch.bfloat16, torch.float16}
    if device.type == "cuda" and halves and find_spec("flash_attn"):
        return AttentionKernel(_flash_attention(), masked=False)
    return AttentionKernel(torch_attention, masked=True)


def torch_attention(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, inputs: AttentionInputs
) -> Tensor:
    """Attend by scaled_dot_product_attention; heads that share keys are taken for more queries."""
    b, s, heads, d = q.shape
    kv = keys.shape[2]
    shared = heads // kv
    keys[inputs.rows, inputs.positions] = k
    values[inputs.rows, inputs.positions] = v
    if inputs.bias is None:  # nothing of the cache but what is new
        # On a GPU, kernels that know of shared keys are for halves alone.
        share = q.device.type == "cuda" and q.dtype != torch.float32
        if not share:
            k, v = (x.repeat_interleave(shared, 2) for x in (k, v))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=share)
        return y.transpose(1, 2)
    # As queries [B, K, shared * S, D] of the heads that they share:
    q = q.view(b, s, kv, shared, d).permute(0, 2, 3, 1, 4).reshape(b, kv, shared * s, d)
    y = F.scaled_dot_product_attention(
        q,
        keys[:, : inputs.length].transpose(1, 2),
        values[:, : inputs.length].transpose(1, 2),
        attn_mask=inputs.bias.repeat(1, 1, shared, 1) if s > 1 else inputs.bias,
    )
    return y.view(b, kv, shared, s, d).permute(0, 3, 1, 2, 4).reshape(b, s, heads, d)


def _flash_attention() -> Attend:
    """Attend by flash-attn, which writes the cache itself and reads only what each row has."""
    with_cache = import_module("flash_attn").flash_attn_with_kvcache

    def attend(
        q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, inputs: AttentionInputs
    ) -> Tensor:
        out: Tensor = with_cache(q, keys, values, k, v, cache_seqlens=inputs.before, causal=True)
        return out

    return attend
