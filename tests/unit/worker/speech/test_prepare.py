"""What a prepared checkpoint holds: the same files, lighter, and nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.weight_norm import is_weight_normed
from worker.errors import SetupError
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.prepare import halve, prepare

FEATURES = "wav2vec2-large-xlsr-53"


@pytest.fixture(scope="module")
def pair(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A published checkpoint, whose wav2vec2 is a pickle as the real one's, and the prepared."""
    folder = tmp_path_factory.mktemp("prepare")
    published = Path(shutil.copytree(tiny_checkpoint, folder / "published"))
    weights = published / FEATURES / "model.safetensors"
    torch.save(load_file(weights), published / FEATURES / "pytorch_model.bin")
    weights.unlink()
    (published / "LLM" / "more.txt").write_text("kept")
    prepare(published, folder / "prepared")
    return published, folder / "prepared"


def test_every_file_has_its_like_and_no_weights_are_there_twice(pair: tuple[Path, Path]) -> None:
    published, prepared = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in pair
    )
    pickled = f"{FEATURES}/pytorch_model.bin"
    assert prepared == published - {pickled} | {f"{FEATURES}/model.safetensors"}
    Checkpoint(pair[1]).check()
    for name in ("config.yaml", "LLM/tokenizer.json", "LLM/more.txt", "BiCodec/config.yaml"):
        assert (pair[1] / name).read_bytes() == (pair[0] / name).read_bytes()


def test_each_part_is_in_its_lighter_form(pair: tuple[Path, Path]) -> None:
    published, prepared = pair
    lm = load_file(prepared / "LLM" / "model.safetensors")
    whole = load_file(published / "LLM" / "model.safetensors")
    assert lm.keys() == whole.keys()
    assert all(torch.equal(lm[name], whole[name].bfloat16()) for name in whole)
    codec = load_file(prepared / "BiCodec" / "model.safetensors")
    assert not is_weight_normed(codec)
    assert not any(name.startswith("postnet.") for name in codec)
    rounded = {name for name, tensor in codec.items() if tensor.dtype == torch.bfloat16}
    assert rounded == {n for n in codec if n.startswith("decoder.") and n.endswith(".weight")}


def test_a_wave_generator_in_float32_is_the_published_one(pair: tuple[Path, Path]) -> None:
    published, prepared = map(Checkpoint, pair)
    cpu = torch.device("cpu")
    expected = Codec.load(published, find_upstream(), cpu)._bicodec.state_dict()
    found = Codec.load(prepared, find_upstream(), cpu, published=published)._bicodec.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_16_layers_that_the_features_depend_on_are_kept(pair: tuple[Path, Path]) -> None:
    """Hidden state 16 comes before the last normalisation: the config still says 17 and more."""
    config = (pair[1] / FEATURES / "config.json").read_text()
    assert config == (pair[0] / FEATURES / "config.json").read_text()
    assert json.loads(config)["num_hidden_layers"] > 16
    names = load_file(pair[1] / FEATURES / "model.safetensors")
    layers = {name.split(".")[2] for name in names if name.startswith("encoder.layers.")}
    assert layers == {str(n) for n in range(16)}
    assert "encoder.layer_norm.weight" not in names


def test_only_single_precision_is_halved() -> None:
    """Half precision has more bits than bfloat16 has, and whole numbers are no weights."""
    tensors = {
        "single": torch.tensor([1 / 3]),
        "half": torch.tensor([1 / 3]).half(),
        "double": torch.tensor([1 / 3]).double(),
        "whole": torch.tensor([257]),
    }
    found = halve(tensors)
    assert found.keys() == tensors.keys()
    assert found["single"].dtype == torch.bfloat16
    for name in ("half", "double", "whole"):
        assert found[name].dtype == tensors[name].dtype
        assert torch.equal(found[name], tensors[name])


def test_of_an_incomplete_checkpoint_nothing_is_written(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    published = Path(shutil.copytree(tiny_checkpoint, tmp_path / "published"))
    (published / FEATURES / "preprocessor_config.json").unlink()
    with pytest.raises(SetupError, match=r"preprocessor_config\.json"):
        prepare(published, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
