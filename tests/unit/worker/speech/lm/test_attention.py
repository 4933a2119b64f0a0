"""How queries meet the cache: each new token sees its own row up to itself, and nothing else."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from worker.speech.lm import attention
from worker.speech.lm.attention import (
    AttentionKernel,
    attention_for,
    causal_inputs,
    torch_attention,
)

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
    inputs = causal_inputs(positions, length, torch.float32)
    out = torch_attention(q, k, v, keys, values, inputs)
    for cache, was, fresh in ((keys, before[0], k), (values, before[1], v)):
        for row in range(ROWS):
            was[row, positions[row]] = fresh[row]
        assert torch.equal(cache, was)  # written where the tokens are, and nowhere else
    torch.testing.assert_close(out, by_hand(q, keys, values, positions), rtol=1e-5, atol=1e-5)


def test_what_is_seen_is_told_for_each_new_token_of_each_row() -> None:
    inputs = causal_inputs(torch.tensor([[0, 1], [2, 3]]), 5, torch.bfloat16)
    assert inputs.length == 5
    assert inputs.before.tolist() == [0, 2]
    assert inputs.bias is not None
    assert (
        inputs.bias.dtype == torch.bfloat16
    )  # that of the queries, else it is turned in each layer
    assert (inputs.bias == 0).tolist() == [
        [[[True, False, False, False, False], [True, True, False, False, False]]],
        [[[True, True, True, False, False], [True, True, True, True, False]]],
    ]
    assert set(inputs.bias.flatten().tolist()) == {0.0, float("-inf")}


def test_a_whole_prompt_sees_what_it_sees_by_its_bias() -> None:
    """Its rows begin at 0; the cache holds what other rows left there, and has them afterwards."""
    positions = torch.arange(5).expand(ROWS, 5)
    q = some(ROWS, 5, HEADS, DIM, seed=1)
    k, v = some(ROWS, 5, SHARED, DIM, seed=2), some(ROWS, 5, SHARED, DIM, seed=3)
    made, caches = [], []
    for whole in (False, True):
        keys, values = (some(ROWS, POSITIONS, SHARED, DIM, seed=seed) for seed in (4, 5))
        if whole:
            keys[:, 5:], values[:, 5:] = float("nan"), float("nan")
        inputs = causal_inputs(positions, 5, torch.float32, whole=whole)
        assert (inputs.bias is None) is whole
        made.append(torch_attention(q, k, v, keys, values, inputs))
        caches.append((keys[:, :5], values[:, :5]))
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made[1], by_hand(q, k, v, positions), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(*caches, strict=True))


def test_no_bias_is_made_for_a_kernel_that_reads_none() -> None:
    assert causal_inputs(torch.tensor([[3]]), 5, torch.bfloat16, masked=False).bias is None


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
    kernel = attention_for(torch.device("cuda"), torch.bfloat16)
    assert not kernel.masked
    q, k, v, keys, values = (some(2, 3, 1, 4, seed=seed) for seed in range(5))
    inputs = causal_inputs(torch.tensor([[5, 6, 7], [0, 1, 2]]), 8, torch.bfloat16, masked=False)
    assert torch.equal(kernel.attend(q, k, v, keys, values, inputs), q + 1)
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
    assert attention_for(torch.device(device), dtype) == AttentionKernel(
        torch_attention, masked=True
    )


@pytest.mark.parametrize(("device", "allowed"), [("cpu", True), ("cuda", False)])
def test_cudnn_has_no_part_in_attention(
    monkeypatch: pytest.MonkeyPatch, device: str, allowed: bool
) -> None:
    """With a bias it would come first on an H100, with a plan for each new length."""
    asked: list[bool] = []

    def enable(enabled: bool) -> None:
        asked.append(enabled)

    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", enable)
    attention_for(torch.device(device), torch.float32)
    assert asked == ([] if allowed else [False])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_on_a_gpu_take_flash_attention(
    flash: list[dict[str, Any]], dtype: torch.dtype
) -> None:
    assert attention_for(torch.device("cuda"), dtype).attend is not torch_attention


def test_halves_on_a_gpu_share_their_keys_within_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of keys and values for each query head would cost more launches than it saves."""
    q = some(ROWS, 5, HEADS, DIM, seed=1).to(torch.bfloat16)
    k, v = (some(ROWS, 5, SHARED, DIM, seed=s).to(torch.bfloat16) for s in (2, 3))
    positions = torch.arange(5).expand(ROWS, 5)
    made, shared = [], []
    compute = torch.nn.functional.scaled_dot_product_attention

    def noted(*args: Tensor, **more: Any) -> Tensor:
        shared.append((args[1].shape[1], more["enable_gqa"]))
        return compute(*args, **more)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", noted)
    for where in ("cpu", "cuda"):

        class Here(Tensor):  # the GPU is a name here
            device = torch.device(where)

        keys, values = (torch.zeros(ROWS, 5, SHARED, DIM, dtype=torch.bfloat16) for _ in range(2))
        inputs = causal_inputs(positions, 5, torch.bfloat16, whole=True)
        made.append(torch_attention(q.as_subclass(Here), k, v, keys, values, inputs))
    assert shared == [(HEADS, False), (SHARED, True)]
    torch.testing.assert_close(
        made[0].as_subclass(Tensor), made[1].as_subclass(Tensor), rtol=0.02, atol=0.02
    )
