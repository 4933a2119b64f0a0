"""How queries meet the cache: flash-attn where it is, torch's own attention elsewhere.

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
class Sight:
    """What all layers of one forward share."""

    positions: Tensor  # long [B, S]: of the new tokens, one after the other in each row
    length: int  # of the cache that is looked at: more than the greatest position
    mask: Tensor  # bool [B, 1, S, length]: what each new token may see


# Queries, new keys and values [B, S, H or K, D], the layer's cache of both [B, P, K, D] -> [B, S,
# H, D]. The new keys and values are in the cache afterwards.
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Sight], Tensor]


def see(positions: Tensor, length: int) -> Sight:
    """Each new token sees the positions up to its own."""
    every = torch.arange(length, device=positions.device)
    return Sight(positions, length, (every <= positions[:, :, None])[:, None])


def attention_for(device: torch.device, dtype: torch.dtype) -> Attend:
    """The fastest that this device and these weights can use."""
    halves = dtype in {torch.bfloat16, torch.float16}
    if device.type == "cuda" and halves and find_spec("flash_attn"):
        return _flash_attention()
    return torch_attention


def torch_attention(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, sight: Sight
) -> Tensor:
    """By scaled_dot_product_attention: heads that share keys are taken for more queries."""
    b, s, heads, d = q.shape
    rows = torch.arange(b, device=q.device)[:, None]
    keys[rows, sight.positions] = k
    values[rows, sight.positions] = v
    kv = keys.shape[2]
    shared = heads // kv
    # As queries [B, K, shared * S, D] of the heads that they share:
    q = q.view(b, s, kv, shared, d).permute(0, 2, 3, 1, 4).reshape(b, kv, shared * s, d)
    y = F.scaled_dot_product_attention(
        q,
        keys[:, : sight.length].transpose(1, 2),
        values[:, : sight.length].transpose(1, 2),
        attn_mask=sight.mask.repeat(1, 1, shared, 1) if s > 1 else sight.mask,
    )
    return y.view(b, kv, shared, s, d).permute(0, 3, 1, 2, 4).reshape(b, s, heads, d)


def _flash_attention() -> Attend:
    """By flash-attn, which writes the cache itself and reads no more of it than each row has."""
    with_cache = import_module("flash_attn").flash_attn_with_kvcache

    def attend(
        q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, sight: Sight
    ) -> Tensor:
        before = sight.positions[:, 0].to(torch.int32)
        out: Tensor = with_cache(q, keys, values, k, v, cache_seqlens=before, causal=True)
        return out

    return attend
