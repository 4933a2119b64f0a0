"""A wav2vec 2.0's folder: each form in which its weights may lie, and what is told of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.tiny_wav2vec2 import tiny_model, with_old_names
from volume.layout import PREPARED
from worker.errors import SetupError
from worker.model_files.weight_norm import fold
from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.loading import load_wav2vec2
from worker.wav2vec2.network import Wav2Vec2

CPU = torch.device("cpu")
SAMPLES = torch.randn(1, 4_000, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module", params=["english", "chinese"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it, with weight norm's newer names."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny_model(request.param).save_pretrained(folder)
    assert any("parametrizations" in name for name in load_file(folder / "model.safetensors"))
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Its configuration, without weights."""
    (tmp_path / "config.json").write_text((saved / "config.json").read_text())
    return tmp_path


def heard(folder: Path) -> Tensor:
    with torch.inference_mode():
        return load_wav2vec2(folder, CPU, head=True).logits(SAMPLES)


def test_pickles_with_weight_norms_older_names_are_taken(saved: Path, folder: Path) -> None:
    """As the published Chinese one is; and safetensors with these names, as the English one."""
    tensors = with_old_names(load_file(saved / "model.safetensors"))
    assert sum(name.endswith((".weight_g", ".weight_v")) for name in tensors) == 2
    torch.save(tensors, folder / "pytorch_model.bin")
    assert torch.equal(heard(folder), heard(saved))
    (folder / "pytorch_model.bin").write_bytes(b"")  # safetensors go first
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(heard(folder), heard(saved))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_computed_with_in_float32(
    saved: Path, folder: Path, dtype: torch.dtype
) -> None:
    tensors = {n: t.to(dtype) for n, t in load_file(saved / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    found = heard(folder)
    assert found.dtype == torch.float32
    save_file({n: t.float() for n, t in tensors.items()}, folder / "model.safetensors")
    assert torch.equal(found, heard(folder))


def test_what_was_prepared_is_used_in_the_place_of_what_was_published(
    saved: Path, folder: Path
) -> None:
    """In halves, with weight norm folded and the names of the model inside."""
    (folder / PREPARED).mkdir()
    tensors = fold(load_file(saved / "model.safetensors"))
    tensors = {name.removeprefix("wav2vec2."): t.half() for name, t in tensors.items()}
    save_file(tensors, folder / PREPARED / "model.safetensors")
    (folder / "model.safetensors").write_bytes(b"not looked at")
    found = heard(folder)
    torch.testing.assert_close(found, heard(saved), rtol=2e-2, atol=2e-2)
    assert not torch.equal(found, heard(saved))


def test_weights_in_float32_stay_where_the_file_is_mapped(saved: Path) -> None:
    network = load_wav2vec2(saved, CPU, head=True)
    is_mapped = mapped(saved / "model.safetensors")
    for name, tensor in network._tensors.items():
        copied = ".conv.weight" in name  # laid out anew, or folded
        assert is_mapped(tensor.data_ptr()) is not copied, name


def test_the_layers_matrices_stay_mapped_in_halves_and_all_else_is_made_float32(
    saved: Path, folder: Path
) -> None:
    tensors = {n: t.half() for n, t in load_file(saved / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    network = load_wav2vec2(folder, CPU, head=True)
    is_mapped = mapped(folder / "model.safetensors")
    for name, tensor in network._tensors.items():
        stays = name.startswith("encoder.layers.") and tensor.dim() == 2
        assert tensor.dtype == (torch.float16 if stays else torch.float32), name
        assert is_mapped(tensor.data_ptr()) is stays, name


def mapped(path: Path) -> Callable[[int], bool]:
    """Whether this process has the file at an address."""
    lines = [
        line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]  # fmt: skip
    places = [tuple(int(address, 16) for address in line.split("-")) for line in lines]
    return lambda address: any(begin <= address < end for begin, end in places)


def test_only_as_many_layers_as_are_asked_for_are_loaded(saved: Path) -> None:
    network = load_wav2vec2(saved, CPU, 2)
    names = set(network._tensors)
    assert any(name.startswith("encoder.layers.1.") for name in names)
    assert not any(name.startswith(("encoder.layers.2.", "lm_head", "masked")) for name in names)
    assert len(list(network.states(SAMPLES))) == 2
    whole = list(load_wav2vec2(saved, CPU).states(SAMPLES))
    for some, every in zip(network.states(SAMPLES), whole, strict=False):
        assert torch.equal(some, every)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feat_extract_norm": "batch"}, "feat_extract_norm is neither"),
        ({"hidden_act": "relu"}, "activations are not gelu"),
        ({"feat_extract_activation": "relu"}, "activations are not gelu"),
        ({"adapter_attn_dim": 16}, "it has adapters"),
        ({"add_adapter": True}, "it has adapters"),
        ({"model_type": "hubert"}, "no wav2vec2"),
    ],
)
def test_another_architecture_is_refused(folder: Path, changes: dict[str, Any], words: str) -> None:
    change(folder, changes)
    with pytest.raises(SetupError, match=f"^{folder.name}: .*another architecture: .*{words}"):
        load_wav2vec2(folder, CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": None},
        {"num_hidden_layers": "many"},
        {"conv_dim": [16, 16]},
        {"conv_kernel": 3},
    ],
)
def test_a_config_without_sizes_is_named(folder: Path, changes: dict[str, Any]) -> None:
    change(folder, changes)
    with pytest.raises(SetupError, match=rf"^{folder.name}/config\.json does not give the sizes"):
        load_wav2vec2(folder, CPU)


def test_what_a_config_leaves_out_is_what_transformers_takes(tmp_path: Path) -> None:
    folder = tmp_path
    tiny_model("english").save_pretrained(folder)
    expected = heard(folder)
    raw = json.loads((folder / "config.json").read_text())
    for name in (
        *("do_stable_layer_norm", "feat_extract_norm", "conv_bias", "layer_norm_eps"),
        *("hidden_act", "feat_extract_activation", "adapter_attn_dim", "add_adapter"),
    ):
        del raw[name]
    (folder / "config.json").write_text(json.dumps(raw))
    assert torch.equal(heard(folder), expected)


def test_a_model_that_scores_no_letters_is_told(saved: Path, folder: Path) -> None:
    change(folder, {"vocab_size": None})
    save_file(load_file(saved / "model.safetensors"), folder / "model.safetensors")
    assert isinstance(load_wav2vec2(folder, CPU), Wav2Vec2)
    with pytest.raises(SetupError, match="no vocab_size"):
        load_wav2vec2(folder, CPU, head=True)


def change(folder: Path, changes: dict[str, Any]) -> None:
    raw = json.loads((folder / "config.json").read_text())
    Wav2Vec2Config.read(folder)
    (folder / "config.json").write_text(json.dumps(raw | changes))


NAMES = (
    "feature_extractor.conv_layers.0.conv.weight",
    "feature_extractor.conv_layers.0.layer_norm.weight",
    "feature_projection.layer_norm.bias",
    "feature_projection.projection.weight",
    "encoder.pos_conv_embed.conv.bias",
    "encoder.layers.2.final_layer_norm.weight",
    "encoder.layers.0.attention.k_proj.bias",
    "encoder.layers.2.feed_forward.output_dense.weight",
    "encoder.layer_norm.weight",
)


@pytest.mark.parametrize("name", [*NAMES, "lm_head.weight"])
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(
    saved: Path, folder: Path, name: str
) -> None:
    published = name if name == "lm_head.weight" else f"wav2vec2.{name}"
    tensors = load_file(saved / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != published}, folder / "model.safetensors")
    with pytest.raises(SetupError, match=f"{folder.name}: .*{name} is missing"):
        load_wav2vec2(folder, CPU, head=True)
    tensors[published] = torch.cat([tensors[published]] * 2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SetupError, match=rf"{name} is \(.*\), not \("):
        load_wav2vec2(folder, CPU, head=True)


def test_half_of_a_weight_s_factors_is_told(saved: Path, folder: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    (lost,) = [name for name in tensors if name.endswith("original1")]
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SetupError, match=r"pos_conv_embed\.conv\.weight is missing"):
        load_wav2vec2(folder, CPU)


def test_a_folder_without_weights_is_told(folder: Path) -> None:
    with pytest.raises(SetupError, match=r"pytorch_model\.bin cannot be read"):
        load_wav2vec2(folder, CPU)
