"""flash-attn's `flash_attn_with_kvcache` as far as its contract goes, on the tensors of a dry run.

It refuses what flash-attn 2.8's Python and C++ are documented to refuse (flash_attn_interface.py,
mha_fwd_kvcache in flash_api.cpp), writes the new keys and values into the cache, and computes the
attention by torch's operations. Of the kernel itself it shows nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from tests.support.dry_gpu.tensors import OnDevice

HALVES = {torch.float16, torch.bfloat16}


@contextmanager
def flash_attention() -> Iterator[None]:
    """flash-attn is installed."""
    module = ModuleType("flash_attn")
    module.flash_attn_with_kvcache = with_kvcache  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec("flash_attn", None)
    with patch.dict(sys.modules, {"flash_attn": module}):
        yield


def with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cache_seqlens: Tensor,
    causal: bool = False,
) -> Tensor:
    """q [B, S, H, D], caches [B, P, K, D], k and v [B, S, K, D] -> [B, S, H, D].

    New positions begin at cache_seqlens [B]; with `causal`, query i sees up to its own.
    """
    rows, new, heads, width = q.shape
    room, shared = k_cache.shape[1:3]
    assert all(isinstance(t, OnDevice) for t in (q, k_cache, v_cache, k, v)), "all on the GPU"
    assert q.dtype in HALVES, "float16 and bfloat16 only"
    assert {t.dtype for t in (k_cache, v_cache, k, v)} == {q.dtype}, "all of one dtype"
    assert width in range(8, 257, 8), "channels of a head: at most 256, a multiple of 8"
    assert heads % shared == 0, "query heads are a multiple of key heads"
    assert k_cache.shape == v_cache.shape == (rows, room, shared, width), "shape of the caches"
    assert k.shape == v.shape == (rows, new, shared, width), "shape of the new keys and values"
    assert new <= room, "no more new positions than the cache has"
    assert all(t.stride(-1) == 1 for t in (q, k_cache, v_cache, k, v)), "contiguous channels"
    assert isinstance(cache_seqlens, OnDevice), "lengths on the GPU"
    assert cache_seqlens.dtype == torch.int32, "lengths are int32"
    assert cache_seqlens.shape == (rows,), "a length for each row"
    assert cache_seqlens.is_contiguous(), "contiguous lengths"
    # The kernel does not look, and would write elsewhere.
    assert int(cache_seqlens.values.max()) + new <= room, "the new positions fit the cache"
    positions = cache_seqlens.long()[:, None] + torch.arange(new, device="cuda")  # [B, S]
    each = torch.arange(rows, device="cuda")[:, None]
    k_cache[each, positions] = k
    v_cache[each, positions] = v
    last = positions if causal else (positions[:, -1:] + 0 * positions)
    mask = torch.arange(room, device="cuda") <= last[:, None, :, None]  # [B, 1, S, P]
    keys, values = (
        cache[:, :, :, None]
        .expand(rows, room, shared, heads // shared, width)
        .reshape(rows, room, heads, width)
        .transpose(1, 2)
        for cache in (k_cache, v_cache)
    )
    out = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask)
    return out.transpose(1, 2)
