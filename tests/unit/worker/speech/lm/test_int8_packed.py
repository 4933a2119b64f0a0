"""Weights that were packed when a model was prepared: what is read is what would be packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.support import any_cpu
from tests.support.language_model import config_of, make_tensors, write_model
from worker.errors import SetupError
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.int8_weights import PACKED, Weights
from worker.speech.native.lm import LmKernel

CONFIG = config_of()


@pytest.fixture(scope="module")
def kernel() -> LmKernel:
    return any_cpu.lm_kernel()


@pytest.fixture
def folder(tmp_path: Path, kernel: LmKernel) -> Path:
    """An LLM folder with both files."""
    folder = write_model(tmp_path / "LLM", make_tensors())
    save_file(Weights.read(folder, CONFIG, kernel).tensors, folder / PACKED)
    return folder


def test_the_packed_file_is_read_and_gives_the_same_to_the_bit(
    folder: Path, kernel: LmKernel
) -> None:
    packed = Weights.read(folder, CONFIG, kernel).tensors
    (folder / PACKED).rename(folder / "aside")
    expected = Weights.read(folder, CONFIG, kernel).tensors
    assert packed.keys() == expected.keys()
    assert all(np.array_equal(packed[name], expected[name]) for name in expected)


def test_no_weights_of_a_layer_are_read_but_the_packed(folder: Path, kernel: LmKernel) -> None:
    expected = Weights.read(folder, CONFIG, kernel).norm
    kept = {"model.embed_tokens.weight", "lm_head.weight"}
    rest = {name: tensor for name, tensor in make_tensors().items() if name in kept}
    write_model(folder, rest)
    assert torch.from_numpy(Int8LanguageModel.load(folder, kernel)._weights.norm).equal(
        torch.from_numpy(expected)
    )


def test_packed_matrices_lie_in_memory_as_packed_ones_do(folder: Path, kernel: LmKernel) -> None:
    first, *others = Weights.read(folder, CONFIG, kernel).layers
    assert first.qkv.address % (2 << 20) == 0
    for layer in (first, *others):
        assert layer.out.address == layer.qkv.address + len(layer.qkv.bytes)
        assert layer.down.address == layer.gate_up.address + len(layer.gate_up.bytes)


@pytest.mark.parametrize("name", ["norm", "layers.01.down", "layers.00.qkv_bias"])
def test_a_tensor_that_is_missing_or_of_another_size_is_named(
    folder: Path, kernel: LmKernel, name: str
) -> None:
    tensors = load_file(folder / PACKED)
    others = {key: tensor for key, tensor in tensors.items() if key != name}
    save_file(others, folder / PACKED)
    with pytest.raises(SetupError, match=f"int8.safetensors does not fit config.json.*{name}"):
        Weights.read(folder, CONFIG, kernel)
    save_file({**others, name: tensors[name][:-1]}, folder / PACKED)
    with pytest.raises(SetupError, match=f"int8.safetensors does not fit config.json.*{name} is"):
        Weights.read(folder, CONFIG, kernel)


def test_a_packed_file_that_is_cut_short_is_refused(folder: Path, kernel: LmKernel) -> None:
    content = (folder / PACKED).read_bytes()
    (folder / PACKED).write_bytes(content[:-1])
    with pytest.raises(SetupError, match=r"LLM/int8\.safetensors cannot be read"):
        Weights.read(folder, CONFIG, kernel)
