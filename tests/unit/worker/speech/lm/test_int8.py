"""The int8 decoder: its products are exact, its rows independent, and without it torch serves.

Where this CPU lacks the instructions, the kernel runs in plain C (tests/support/any_cpu).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support import any_cpu
from tests.support.checkpoints import make_checkpoint
from tests.support.events import Events
from tests.support.language_model import config_of, hidden_states, make_tensors, write_model
from tests.support.random_checkpoint import Sizes
from worker import cpu_info
from worker.errors import SetupError
from worker.speech.checkpoint import Place, find_tensors
from worker.speech.engine import Engine
from worker.speech.lm import int8_weights
from worker.speech.lm.int8_model import Int8Head, Int8LanguageModel, Packed
from worker.speech.lm.int8_weights import Weights, read_ahead, why_unsupported
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native import build
from worker.speech.native.build import cores
from worker.speech.native.lm import GROUP, LmKernel


@pytest.fixture(scope="module")
def kernel() -> LmKernel:
    return any_cpu.lm_kernel()


@pytest.fixture
def opens(kernel: LmKernel) -> Iterator[None]:
    """Whoever opens the kernel in the test gets it."""
    with any_cpu.kernels(*LmKernel.interface.extensions):
        yield


@pytest.fixture
def at_home(kernel: LmKernel) -> LmKernel:
    """The kernel in this CPU's instructions."""
    lacking = {*LmKernel.interface.extensions} - cpu_info.flags()
    if lacking:
        pytest.skip(f"this CPU lacks {', '.join(sorted(lacking))}")
    return kernel


@pytest.fixture(scope="module")
def lm(demo_checkpoint: Path, kernel: LmKernel) -> Int8LanguageModel:
    return Int8LanguageModel.load(demo_checkpoint / "LLM", kernel)


def codes(groups: torch.Tensor, most: float) -> torch.Tensor:
    """Groups [..., 32] in whole numbers up to `most`."""
    greatest = groups.abs().amax(-1, keepdim=True)
    return (groups * torch.where(greatest > 0, most / greatest, 0)).round()


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Activations [n, inputs] as groups of 32 in 8 bits stand for them."""
    groups = x.view(len(x), -1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return (codes(groups, 127) * scale).view_as(x)


def least_errors(weight: torch.Tensor) -> torch.Tensor:
    """Of each group of 32 weights, the least sum of squares that one of a few ranges loses."""
    groups = weight.view(len(weight), -1, GROUP)
    ranges = torch.stack([codes(groups, most) for most in (127, 126, 125, 124)])
    both, squares = (ranges * groups).sum(-1), (ranges * ranges).sum(-1)
    scales = torch.where(squares > 0, both / squares, 0).half().float()
    return (ranges * scales[..., None] - groups).square().sum(-1).amin(0)


def unpacked(packed: Packed) -> torch.Tensor:
    """The weights [outputs, inputs] that the packed ones stand for: ones are exact in 8 bits."""
    return packed(torch.eye(packed.inputs)).T.contiguous()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 12, 16, 17, 21, 24, 29])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_the_rounded_numbers(
    kernel: LmKernel, count: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(count)
    weight = torch.randn(48, 96, generator=generator).to(dtype)
    weight[5] = 0  # a group of nothing
    x = torch.randn(count, 96, generator=generator)
    packed = Packed(kernel, 48, 96)
    packed.fill(weight)
    expected = rounded(x).double() @ unpacked(packed).double().T
    torch.testing.assert_close(packed(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_group_of_weights_loses_the_least(kernel: LmKernel, dtype: torch.dtype) -> None:
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(3)).to(dtype)
    packed = Packed(kernel, 256, 256)
    packed.fill(weight)
    weight = weight.float()
    lost = (unpacked(packed) - weight).square().view(256, -1, GROUP).sum(-1)
    least = least_errors(weight)  # another of two ranges that are nearly as good may be taken
    torch.testing.assert_close(lost, least, rtol=0.25, atol=1e-7)
    torch.testing.assert_close(lost.mean(), least.mean(), rtol=1e-3, atol=0)
    assert lost.mean() < 0.9 * (rounded(weight) - weight).square().mean() * GROUP


def test_weights_in_a_file_are_those_in_memory(kernel: LmKernel, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(6)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = torch.randn(64, 96, generator=generator).to(dtype)
        save_file({"before": torch.ones(3), "w": weight}, tmp_path / "file")
        here, there = Packed(kernel, 64, 96), Packed(kernel, 64, 96)
        here.fill(weight)
        with (tmp_path / "file").open("rb") as file:
            there.pack(kernel, file, find_tensors(tmp_path / "file")["w"])
        assert np.array_equal(here.bytes, there.bytes)


@pytest.mark.parametrize("keep", [4, 1000, -1, -100_000])
def test_a_file_that_is_cut_short_is_refused(
    demo_checkpoint: Path, tmp_path: Path, kernel: LmKernel, keep: int
) -> None:
    folder = tmp_path / "LLM"
    shutil.copytree(demo_checkpoint / "LLM", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors cannot be read"):
        Int8LanguageModel.load(folder, kernel)


def test_a_read_that_ends_too_soon_is_an_error(kernel: LmKernel, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="Input/output"):
        Packed(kernel, 16, 32).pack(kernel, file, Place("F32", (16, 32), 0))


def test_weights_that_were_read_ahead_are_the_same(
    demo_checkpoint: Path, kernel: LmKernel, lm: Int8LanguageModel, opens: None
) -> None:
    weights = read_ahead(demo_checkpoint / "LLM", "auto")
    assert weights
    ahead = Int8LanguageModel.load(demo_checkpoint / "LLM", kernel, weights)
    prompt = [[3, 4, 5, 6]]
    assert torch.equal(
        ahead.prefill(prompt, ahead.new_cache(1, 64)), lm.prefill(prompt, lm.new_cache(1, 64))
    )
    assert read_ahead(demo_checkpoint / "LLM", "float32") is None


def test_nothing_is_read_ahead_beside_a_gpu(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: None
) -> None:
    monkeypatch.setattr(cpu_info, "GPU", tmp_path)
    assert read_ahead(demo_checkpoint / "LLM", "auto") is None


def test_a_head_has_any_number_of_tokens(kernel: LmKernel) -> None:
    weight = torch.randn(21, 64, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    logits = Int8Head(kernel, weight)(x)
    assert logits.shape == (3, 21)
    torch.testing.assert_close(logits, x @ weight.T, rtol=0, atol=0.2)


def test_a_row_is_the_same_to_the_bit_whatever_its_batch(lm: Int8LanguageModel) -> None:
    generator = torch.Generator().manual_seed(4)
    prompts = [
        torch.randint(lm.config.vocab_size, (n,), generator=generator).tolist()
        for n in (17, 40, 3, 9, 1, 64, 33, 20, 5, 11, 2)
    ]

    def run(chosen: list[int], first: int) -> torch.Tensor:
        cache = lm.new_cache(16, 128).rows(first, len(chosen))
        states = [lm.prefill([prompts[i] for i in chosen], cache)]
        for step in range(5):
            ids = torch.tensor([(step * 7 + i) % 50 for i in chosen])
            at = torch.tensor([len(prompts[i]) + step for i in chosen])
            states.append(lm.step(ids, at, cache, 128))
        return torch.stack(states, 1)  # [rows, 6, D]

    together = run(list(range(11)), 2)
    for i in range(11):
        assert torch.equal(together[i], run([i], i)[0])
    assert torch.equal(together[[3, 0, 5]], run([3, 0, 5], 0))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_cache_takes_memory_only_as_far_as_its_sequences_go(lm: Int8LanguageModel) -> None:
    """Huge pages would be taken whole, and a row's keys and values lie all over the cache."""
    cache = lm.new_cache(64, lm.config.max_position_embeddings)
    assert cache.tensor.nbytes > 512 << 20
    before = resident()
    for row in range(64):
        lm.prefill([[5, 6, 7]], cache.rows(row, 1))
    assert resident() - before < cache.tensor.nbytes / 8
    assert cache.tensor[63, ..., : 3 * lm.config.head_dim].any()


def test_a_cache_row_can_be_copied(lm: Int8LanguageModel) -> None:
    cache = lm.new_cache(3, 64)
    lm.prefill([[5, 6, 7] * 9], cache.rows(2, 1))
    cache.copy(2, 0, 27)
    ids, at = torch.tensor([9]), torch.tensor([27])
    moved = lm.step(ids, at, cache.rows(0, 1), 28)
    assert torch.equal(moved, lm.step(ids, at, cache.rows(2, 1), 28))


def test_what_an_older_sequence_left_in_the_cache_is_not_seen(lm: Int8LanguageModel) -> None:
    cache = lm.new_cache(1, 64)
    fresh = lm.prefill([[4, 5, 6]], cache)
    lm.prefill([list(range(10, 60))], cache)
    cache.tensor[..., 48 * lm.config.head_dim :] = -1  # not a number, past both
    assert torch.equal(lm.prefill([[4, 5, 6]], cache), fresh)


def test_an_engine_on_a_cpu_takes_it(demo_checkpoint: Path, opens: None) -> None:
    assert isinstance(Engine.load(demo_checkpoint, device="cpu")._lm, Int8LanguageModel)


def test_sizes_that_the_kernel_has_not_run_on_torch(
    tmp_path: Path, opens: None, events: Events
) -> None:
    odd = make_checkpoint(tmp_path / "odd", Sizes(hidden=36))
    assert isinstance(Engine.load(odd, device="cpu")._lm, LanguageModel)
    reason = "its attention heads have 6 channels"
    assert ("int8 is not possible", {"reason": reason}) in events()
    with pytest.raises(SetupError, match=r"its attention heads have 6 channels.*use auto"):
        Engine.load(odd, "int8", device="cpu")


def test_tensors_of_another_shape_are_refused(
    demo_checkpoint: Path, tmp_path: Path, kernel: LmKernel
) -> None:
    folder = tmp_path / "LLM"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(demo_checkpoint / "LLM" / "model.safetensors")
    config = (demo_checkpoint / "LLM" / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"intermediate_size": ', '"intermediate_size": 32, "was": ')
    )
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors does not fit"):
        Int8LanguageModel.load(folder, kernel)


# Products


def test_activations_of_nothing_give_nothing_and_large_ones_drown_no_other_group(
    kernel: LmKernel,
) -> None:
    packed = Packed(kernel, 16, 64)
    packed.fill(torch.randn(16, 64, generator=torch.Generator().manual_seed(9)))
    x = torch.zeros(3, 64)
    x[1, :32], x[1, 32:] = 1e6, 1e-3
    x[2, 32:] = 1e-3
    none, both, small = packed(x)
    assert not none.any()
    alone = torch.zeros(1, 64)
    alone[0, :32] = 1e6
    torch.testing.assert_close(both, packed(alone)[0] + small)  # each group has its own scale
    assert torch.equal(packed(-x), -packed(x))


def test_weights_of_another_kind_are_taken_as_float32(kernel: LmKernel) -> None:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(9))
    one, other = Packed(kernel, 16, 32), Packed(kernel, 16, 32)
    one.fill(weight)
    other.fill(weight.double())
    assert np.array_equal(one.bytes, other.bytes)


def test_a_packed_matrix_may_have_more_bytes_than_32_bits_count(kernel: LmKernel) -> None:
    """A byte a weight, and a scale of two bytes for each group of 32."""
    assert kernel.packed_size(1 << 20, 1 << 13) == (1 << 33) + (1 << 33) // 32 * 2


def test_a_product_without_memory_is_told(
    kernel: LmKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Packed(kernel, 16, 32)
    monkeypatch.setattr(kernel.library, "lm_linear", lambda *_: -1)
    with pytest.raises(torch.OutOfMemoryError, match="a product"):
        packed(torch.zeros(1, 32))


# A small model, against Qwen2's formulas


CONFIG = config_of()
PROMPTS = [[5, 6, 7, 8, 9], [11], list(range(2, 39)), [3, 2, 30]]
NEAR = 0.05  # of the states' own size, root mean square; seen: 0.02


def near(ours: torch.Tensor, theirs: np.ndarray) -> bool:
    off = (ours.double() - torch.from_numpy(theirs)).square().mean().sqrt()
    return bool(off < NEAR * np.sqrt(np.mean(theirs**2)))


@pytest.fixture(scope="module")
def small(kernel: LmKernel, tmp_path_factory: pytest.TempPathFactory) -> Int8LanguageModel:
    return Int8LanguageModel.load(
        write_model(tmp_path_factory.mktemp("small"), make_tensors()), kernel
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_of_different_lengths_end_and_go_on_each_in_its_own_state(
    kernel: LmKernel, tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in make_tensors().items()}
    lm = Int8LanguageModel.load(write_model(tmp_path, tensors), kernel)
    cache, rows = lm.new_cache(4, 40), [list(prompt) for prompt in PROMPTS]
    states = lm.prefill(PROMPTS, cache)
    for step in range(4):
        assert states.shape == (4, 64)
        for state, row in zip(states, rows, strict=True):
            assert near(state, hidden_states(tensors, CONFIG, row)[-1])
        if step == 3:
            break
        ids, at = [step + 1, 20 - step, 33, 9], [len(row) for row in rows]
        places = torch.tensor(at)
        states = lm.step(torch.tensor(ids), places, cache, 40)
        assert places.tolist() == at  # what the caller counts by is left as it is
        for row, token in zip(rows, ids, strict=True):
            row.append(token)


@pytest.mark.parametrize(
    "sizes",
    [
        # As many keys as queries, wider than one group; an output matrix of its own.
        {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 128},
        # More queries for one key than are computed together.
        {"num_attention_heads": 10, "num_key_value_heads": 1, "hidden_size": 320},
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_heads_of_any_number_share_keys_and_an_output_in_the_file_is_the_models(
    kernel: LmKernel, tmp_path: Path, sizes: dict[str, Any], tied: bool
) -> None:
    tensors = make_tensors(**sizes, tie_word_embeddings=False)
    sizes = sizes | {"tie_word_embeddings": tied}
    config = config_of(**sizes)
    lm = Int8LanguageModel.load(write_model(tmp_path, tensors, **sizes), kernel)
    state = lm.prefill([PROMPTS[0]], lm.new_cache(1, 40))
    assert near(state[0], hidden_states(tensors, config, PROMPTS[0])[-1])
    chosen = torch.tensor([7, 0, 39])
    logits = lm.head(chosen)(state)
    assert logits.shape == (1, 3)
    theirs = state @ tensors["lm_head.weight"][chosen].T
    torch.testing.assert_close(logits, theirs, rtol=0.05, atol=0.3)


@pytest.mark.parametrize(
    ("asked", "room"), [(1, 16), (15, 16), (16, 16), (17, 32), (32, 32), (40, 48)]
)
def test_a_cache_has_room_for_all_that_is_asked_in_whole_blocks(
    small: Int8LanguageModel, asked: int, room: int
) -> None:
    cache = small.new_cache(2, asked)
    assert cache.positions == room
    last = asked - 1
    small.step(torch.tensor([1]), torch.tensor([last]), cache, last + 1)
    assert cache.tensor[0].any()
    assert not cache.tensor[1].any()  # nothing is written past the row's end


def test_a_larger_cache_after_a_smaller_one_has_its_own_rotations(
    kernel: LmKernel, tmp_path: Path, small: Int8LanguageModel
) -> None:
    lm = Int8LanguageModel.load(write_model(tmp_path, make_tensors()), kernel)
    little = lm.new_cache(1, 16)
    lm.prefill([[1, 2, 3]], little)
    large = lm.new_cache(1, 40)
    prompt = [PROMPTS[2]]
    assert torch.equal(lm.prefill(prompt, large), small.prefill(prompt, small.new_cache(1, 40)))
    before = small.prefill([[1, 2, 3, 4]], small.new_cache(1, 16))
    state = lm.step(torch.tensor([4]), torch.tensor([3]), little, 16)
    assert torch.equal(state, before)  # the small one goes on as it was


@pytest.mark.parametrize("cuts", [(1,), (15, 16), (3, 7, 20), ()])
def test_a_prompt_in_parts_is_to_the_bit_what_it_is_whole(
    small: Int8LanguageModel, cuts: tuple[int, ...]
) -> None:
    """Beside another one, which begins where the first has been cut."""
    prompt, other = [token % 40 for token in range(3, 33)], PROMPTS[2]
    whole = small.prefill([prompt], small.new_cache(1, 40))
    alone = small.prefill([other], small.new_cache(1, 40))
    cache = small.new_cache(3, 40)
    for begin, end in pairwise((0, *cuts)):
        small.prefill([prompt[begin:end]], cache.rows(1, 1), [begin])
    last = cuts[-1] if cuts else 0
    found = small.prefill([prompt[last:], other], cache.rows(1, 2), [last, 0])
    assert torch.equal(found, torch.cat([whole, alone]))


def test_a_cache_has_room_for_all_from_the_start(small: Int8LanguageModel) -> None:
    cache = small.new_cache(2, 40)
    assert cache.free is None
    assert cache.reserve(1, 5) == 48
    cache.flush()
    cache.release(1)


def test_rows_of_rows_are_counted_from_where_those_begin(small: Int8LanguageModel) -> None:
    cache = small.new_cache(5, 16)
    inner = cache.rows(1, 4).rows(2, 2)
    small.prefill([[1, 2], [3]], inner)
    used = [bool(row.any()) for row in cache.tensor]
    assert used == [False, False, False, True, True]
    alone = small.prefill([[1, 2, 9]], small.new_cache(1, 16))
    state = small.step(torch.tensor([9]), torch.tensor([2]), cache.rows(3, 1), 16)
    assert torch.equal(state, alone)


@pytest.mark.parametrize("length", [15, 16, 17])
def test_a_copied_row_goes_on_as_its_source(small: Int8LanguageModel, length: int) -> None:
    cache, prompt = small.new_cache(3, 32), PROMPTS[2][:length]
    small.prefill([prompt], cache.rows(1, 1))
    cache.tensor[2] = 5
    cache.copy(1, 2, length)
    at = torch.tensor([length])
    moved = small.step(torch.tensor([9]), at, cache.rows(2, 1), 32)
    assert torch.equal(moved, small.step(torch.tensor([9]), at, cache.rows(1, 1), 32))
    assert not cache.tensor[0].any()


def test_what_an_older_row_left_behind_is_not_seen_at_any_length(small: Int8LanguageModel) -> None:
    for length in (1, 15, 16, 17, 31):
        prompt = PROMPTS[2][:length]
        cache = small.new_cache(1, 32)
        fresh = small.prefill([prompt], cache)
        small.prefill([[token % 7 for token in range(32)]], cache)
        assert torch.equal(small.prefill([prompt], cache), fresh)


def test_a_step_without_memory_is_told(
    small: Int8LanguageModel, kernel: LmKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = small.new_cache(1, 16)
    monkeypatch.setattr(kernel.library, "lm_forward", lambda *_: -1)
    with pytest.raises(torch.OutOfMemoryError, match="a step"):
        small.prefill([[1]], cache)


# Which files and which machines


def without(name: str) -> dict[str, torch.Tensor]:
    return {other: tensor for other, tensor in make_tensors().items() if other != name}


def test_an_output_that_is_not_tied_must_be_in_the_file(kernel: LmKernel, tmp_path: Path) -> None:
    folder = write_model(tmp_path, make_tensors(), tie_word_embeddings=False)
    with pytest.raises(SetupError, match=r"does not fit config.json.*lm_head\.weight"):
        Int8LanguageModel.load(folder, kernel)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (without("model.norm.weight"), "model.norm.weight"),
        (without("model.layers.1.self_attn.v_proj.bias"), r"layers\.1\.self_attn\.v_proj\.bias"),
        (without("model.embed_tokens.weight"), "embed_tokens"),
        (
            make_tensors() | {"model.norm.weight": torch.ones(63)},
            r"model.norm.weight is \(63,\), not \(64,\)",
        ),
        (
            make_tensors() | {"model.norm.weight": torch.ones(64, dtype=torch.float64)},
            "model.norm.weight is of type F64, not one of F32, BF16, F16",
        ),
        (
            make_tensors() | {"model.embed_tokens.weight": torch.ones(39, 64)},
            r"the embedding is \(39, 64\)",
        ),
        (make_tensors() | {"lm_head.weight": torch.ones(40, 32)}, r"the output is \(40, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(
    kernel: LmKernel, tmp_path: Path, tensors: dict[str, torch.Tensor], words: str
) -> None:
    with pytest.raises(SetupError, match=f"does not fit config.json.*{words}"):
        Int8LanguageModel.load(write_model(tmp_path, tensors), kernel)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, None),
        ({"hidden_size": 896, "num_attention_heads": 14, "intermediate_size": 4864}, None),
        ({"hidden_size": 128, "num_attention_heads": 1}, None),
        ({"hidden_size": 160, "num_attention_heads": 1}, "its attention heads have 160 channels"),
        ({"num_attention_heads": 4}, "its attention heads have 16 channels"),
        ({"intermediate_size": 80}, "its widths 64 and 80 are not both multiples of 32"),
        ({"hidden_size": 72}, "its attention heads have 36 channels"),
        ({"hidden_size": 65}, "its widths 65 and 96 are not both multiples of 32"),
    ],
)
def test_sizes_are_the_kernels_or_it_is_said_why_not(
    sizes: dict[str, Any], words: str | None
) -> None:
    assert why_unsupported(config_of(**sizes)) == words


def test_matrices_lie_one_after_the_other_on_a_large_page(kernel: LmKernel, tmp_path: Path) -> None:
    folder = write_model(tmp_path, make_tensors())
    layers = Weights.read(folder, CONFIG, kernel).layers
    matrices = [m for layer in layers for m in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    assert matrices[0].address % (2 << 20) == 0
    for one, following in pairwise(matrices):
        assert one.address % 64 == 0  # a cache line
        assert following.address == one.address + len(one.bytes)
    assert [(m.outputs, m.inputs) for m in matrices[:4]] == [
        (128, 64),
        (64, 64),
        (192, 64),
        (64, 96),
    ]


class AskedError(Exception):
    """The kernel was going to be opened."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has all that is needed and no GPU."""

    def stop(threads: int | None = None) -> None:
        raise AskedError(threads)

    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS)
    monkeypatch.setattr(cpu_info, "GPU", tmp_path / "none")
    monkeypatch.setattr(LmKernel, "open", stop)


@pytest.mark.parametrize("dtype", ["auto", "int8"])
@pytest.mark.parametrize(("there", "threads"), [(1, 1), (2, 1), (8, 7)])
def test_reading_ahead_leaves_a_core_to_the_rest(
    asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int, threads: int,
    dtype: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(int8_weights, "cores", lambda: there)
    with pytest.raises(AskedError) as raised:
        read_ahead(write_model(tmp_path, make_tensors()), dtype)
    assert raised.value.args == (threads,)


def test_nothing_is_read_ahead_that_is_not_going_to_be_used(
    asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        assert read_ahead(tmp_path / "not even looked at", dtype) is None
    odd = write_model(tmp_path / "odd", make_tensors(), intermediate_size=80)
    assert read_ahead(odd, "auto") is None
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS - {"avx512_vnni"})
    assert read_ahead(tmp_path / "not even looked at", "auto") is None


def test_without_a_kernel_nothing_is_read_ahead(
    asked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LmKernel, "open", lambda _threads: None)
    assert read_ahead(write_model(tmp_path, make_tensors()), "auto") is None


def test_a_kernel_has_a_thread_for_each_core_or_as_many_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(build, "open_library", lambda interface: interface.name)
    monkeypatch.setattr(LmKernel, "__init__", lambda _self, *given: seen.append(given))
    LmKernel.open()
    LmKernel.open(3)
    assert seen == [("lm", len(os.sched_getaffinity(0))), ("lm", 3)]
    assert cores() == len(os.sched_getaffinity(0))


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_machine_without_a_compiler_runs_on_torch(
    demo_checkpoint: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    assert LmKernel.open() is None
    assert isinstance(Engine.load(demo_checkpoint, device="cpu")._lm, LanguageModel)


@pytest.mark.slow("starts a process")
def test_a_compiler_that_fails_is_told_and_torch_serves(
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
) -> None:
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS)
    monkeypatch.setattr(build, "_compiler", lambda _e: [sys.executable, "-c", "exit('broken')"])
    assert LmKernel.open() is None
    assert events() == [("kernel could not be built", {"kernel": "lm", "error": "broken"})]
    assert not list(empty_cache.rglob("*.so"))


def test_a_machine_without_the_instructions_runs_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_info, "flags", lambda: {"avx2", "fma"})
    assert LmKernel.open() is None


def test_processes_that_build_at_once_leave_one_library_the_same_as_ever(
    tmp_path: Path, at_home: LmKernel
) -> None:
    """Whatever folder holds its sources."""
    sources, cache = tmp_path / "a_folder" / "of_a_longer_name" / "native", tmp_path / "cache"
    shutil.copytree(build.SOURCES, sources)
    program = (
        "import sys; from pathlib import Path; from worker.speech.native import build;"
        "from worker.speech.native.lm import LmKernel;"
        "build.SOURCES = Path(sys.argv[1]); assert LmKernel.open(1)"
    )
    command = [sys.executable, "-c", program, str(sources)]
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    running = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    (built,) = (path for path in cache.rglob("*") if path.is_file())
    assert built.read_bytes() == Path(at_home.library._name).read_bytes()


# Numbers that are none


def test_a_scrubbed_cache_has_all_that_was_a_number(kernel: LmKernel, tmp_path: Path) -> None:
    lm = Int8LanguageModel.load(write_model(tmp_path, make_tensors()), kernel)
    cache = lm.new_cache(len(PROMPTS), 40)
    lm.prefill(PROMPTS, cache)
    halves = cache.tensor.view(torch.float16)
    kept = halves.clone()
    halves[1, 0, 1, 0, 7:90] = halves[2, 1, 0] = float("nan")
    cache.scrub()
    kept[1, 0, 1, 0, 7:90] = kept[2, 1, 0] = 0
    assert torch.equal(halves, kept)
