"""The int8 decoder: its products are exact, its rows independent, and without it torch serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.checkpoints import Sizes, make_checkpoint
from worker.errors import SetupError
from worker.speech import int8_weights, native
from worker.speech.checkpoint import Place, find_tensors
from worker.speech.engine import Engine
from worker.speech.int8 import GROUP, Int8Head, Int8LanguageModel, Kernel, Packed
from worker.speech.int8_weights import read_ahead
from worker.speech.lm import LanguageModel


@pytest.fixture(scope="module")
def lm(demo_checkpoint: Path, kernel: Kernel) -> Int8LanguageModel:
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


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_the_rounded_numbers(
    kernel: Kernel, count: int, dtype: torch.dtype
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
def test_a_group_of_weights_loses_the_least(kernel: Kernel, dtype: torch.dtype) -> None:
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(3)).to(dtype)
    packed = Packed(kernel, 256, 256)
    packed.fill(weight)
    weight = weight.float()
    lost = (unpacked(packed) - weight).square().view(256, -1, GROUP).sum(-1)
    least = least_errors(weight)  # another of two ranges that are nearly as good may be taken
    torch.testing.assert_close(lost, least, rtol=0.25, atol=1e-7)
    torch.testing.assert_close(lost.mean(), least.mean(), rtol=1e-3, atol=0)
    assert lost.mean() < 0.9 * (rounded(weight) - weight).square().mean() * GROUP


def test_weights_in_a_file_are_those_in_memory(kernel: Kernel, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(6)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = torch.randn(64, 96, generator=generator).to(dtype)
        save_file({"before": torch.ones(3), "w": weight}, tmp_path / "file")
        here, there = Packed(kernel, 64, 96), Packed(kernel, 64, 96)
        here.fill(weight)
        with (tmp_path / "file").open("rb") as file:
            there.pack(kernel, file.fileno(), find_tensors(tmp_path / "file")["w"])
        assert np.array_equal(here.bytes, there.bytes)


@pytest.mark.parametrize("keep", [4, 1000, -1, -100_000])
def test_a_file_that_is_cut_short_is_refused(
    demo_checkpoint: Path, tmp_path: Path, kernel: Kernel, keep: int
) -> None:
    folder = tmp_path / "LLM"
    shutil.copytree(demo_checkpoint / "LLM", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(SetupError, match=r"LLM/model\.safetensors cannot be read"):
        Int8LanguageModel.load(folder, kernel)


def test_a_read_that_ends_too_soon_is_an_error(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="Input/output"):
        Packed(kernel, 16, 32).pack(kernel, file.fileno(), Place("F32", (16, 32), 0))


def test_weights_that_were_read_ahead_are_the_same(
    demo_checkpoint: Path, kernel: Kernel, lm: Int8LanguageModel
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
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_weights, "GPU", tmp_path)
    assert read_ahead(demo_checkpoint / "LLM", "auto") is None


def test_a_head_has_any_number_of_tokens(kernel: Kernel) -> None:
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


def test_an_engine_on_a_cpu_takes_it(demo_checkpoint: Path, kernel: Kernel) -> None:
    assert isinstance(Engine.load(demo_checkpoint, device="cpu")._lm, Int8LanguageModel)


def test_sizes_that_the_kernel_has_not_run_on_torch(tmp_path: Path, kernel: Kernel) -> None:
    odd = make_checkpoint(tmp_path / "odd", Sizes(hidden=36))
    assert isinstance(Engine.load(odd, device="cpu")._lm, LanguageModel)
    with pytest.raises(SetupError, match=r"heads of 6 channels.*use auto"):
        Engine.load(odd, "int8", device="cpu")


def test_tensors_of_another_shape_are_refused(
    demo_checkpoint: Path, tmp_path: Path, kernel: Kernel
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


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_machine_without_a_compiler_runs_on_torch(
    demo_checkpoint: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    assert Kernel.open() is None
    assert isinstance(Engine.load(demo_checkpoint, device="cpu")._lm, LanguageModel)


def test_a_compiler_that_fails_is_told_and_torch_serves(
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kernel: Kernel,
) -> None:
    monkeypatch.setattr(native, "_compiler", lambda _e: [sys.executable, "-c", "exit('broken')"])
    native.log.propagate = True
    assert Kernel.open() is None
    assert "broken" in caplog.text
    assert not list(empty_cache.rglob("*.so"))


def test_a_machine_without_the_instructions_runs_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "cpu_flags", lambda: {"avx2", "fma"})
    assert Kernel.open() is None


def test_processes_that_build_at_once_leave_one_library_the_same_as_ever(
    tmp_path: Path, kernel: Kernel
) -> None:
    command = [sys.executable, "-c", "from worker.speech.int8 import Kernel; assert Kernel.open(1)"]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    running = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    (built,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert built.read_bytes() == Path(kernel.library._name).read_bytes()


def test_the_library_is_the_same_bytes_whatever_folder_holds_its_sources(
    tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "a", tmp_path / "a_folder" / "of_a_longer_name"):
        sources = folder / "native"
        shutil.copytree(native.SOURCES, sources)
        monkeypatch.setattr(native, "SOURCES", sources)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert Kernel.open(1)
        (built,) = (path for path in (folder / "cache").rglob("*") if path.is_file())
        assert built.read_bytes() == Path(kernel.library._name).read_bytes()
