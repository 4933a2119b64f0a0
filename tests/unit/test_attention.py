"""How queries meet the cache: each new token sees its own row up to itself, and nothing else."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.speech import attention
from worker.speech.attention import attention_for, see, torch_attention

ROWS, POSITIONS, HEADS, SHARED, DIM = 3, 9, 6, 2, 4  # of the heads, 3 share each key


def some(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(q: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """A query at a time."""
    out = torch.zeros_like(q)
    for row in range(q.shape[0]):
        for new in range(q.shape[1]):
            seen = int(positions[row, new]) + 1
            for head in range(HEADS):
                kv = head // (HEADS // SHARED)
                scores = keys[row, :seen, kv] @ q[row, new, head] / DIM**0.5
                out[row, new, head] = scores.softmax(0) @ values[row, :seen, kv]
    return out


@pytest.mark.parametrize("length", [7, POSITIONS])
@pytest.mark.parametrize("new", [1, 3])
def test_each_new_token_sees_its_row_up_to_itself(new: int, length: int) -> None:
    positions = torch.tensor([0, 4, 2])[:, None] + torch.arange(new)  # rows of different lengths
    q = some(ROWS, new, HEADS, DIM, seed=1)
    k, v = some(ROWS, new, SHARED, DIM, seed=2), some(ROWS, new, SHARED, DIM, seed=3)
    keys, values = (some(ROWS, POSITIONS, SHARED, DIM, seed=seed) for seed in (4, 5))
    before = keys.clone(), values.clone()
    out = torch_attention(q, k, v, keys, values, see(positions, length))
    for cache, was, fresh in ((keys, before[0], k), (values, before[1], v)):
        for row in range(ROWS):
            was[row, positions[row]] = fresh[row]
        assert torch.equal(cache, was)  # written where the tokens are, and nowhere else
    torch.testing.assert_close(out, by_hand(q, keys, values, positions), rtol=1e-5, atol=1e-5)


def test_what_is_seen_is_told_for_each_new_token_of_each_row() -> None:
    sight = see(torch.tensor([[0, 1], [2, 3]]), 5)
    assert sight.length == 5
    assert sight.mask.tolist() == [
        [[[True, False, False, False, False], [True, True, False, False, False]]],
        [[[True, True, True, False, False], [True, True, True, True, False]]],
    ]


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A flash-attn that only notes what it is asked."""
    asked: list[dict[str, Any]] = []

    def with_cache(
        q: Tensor, keys: Tensor, values: Tensor, k: Tensor, v: Tensor, **more: Any
    ) -> Tensor:
        asked.append({"q": q, "keys": keys, "values": values, "k": k, "v": v} | more)
        return q + 1

    module = ModuleType("flash_attn")
    module.flash_attn_with_kvcache = with_cache
    module.__spec__ = ModuleSpec("flash_attn", None)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return asked


def test_flash_attention_is_told_how_long_each_row_was(flash: list[dict[str, Any]]) -> None:
    attend = attention_for(torch.device("cuda"), torch.bfloat16)
    q, k, v, keys, values = (some(2, 3, 1, 4, seed=seed) for seed in range(5))
    sight = see(torch.tensor([[5, 6, 7], [0, 1, 2]]), 8)
    assert torch.equal(attend(q, k, v, keys, values, sight), q + 1)
    (asked,) = flash
    assert asked["cache_seqlens"].tolist() == [5, 0]  # before the new ones
    assert asked["cache_seqlens"].dtype == torch.int32
    assert asked["causal"] is True
    for name, given in (("q", q), ("k", k), ("v", v), ("keys", keys), ("values", values)):
        assert asked[name] is given


@pytest.mark.parametrize(
    ("device", "dtype", "there"),
    [
        ("cpu", torch.bfloat16, True),
        ("cuda", torch.float32, True),  # which flash-attn does not have
        ("cuda", torch.bfloat16, False),
        ("cuda", torch.float16, False),
        ("cpu", torch.float32, False),
    ],
)
def test_elsewhere_it_is_torchs(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: torch.dtype, there: bool
) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda _name: there or None)
    assert attention_for(torch.device(device), dtype) is torch_attention


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_on_a_gpu_take_flash_attention(
    flash: list[dict[str, Any]], dtype: torch.dtype
) -> None:
    assert attention_for(torch.device("cuda"), dtype) is not torch_attention
