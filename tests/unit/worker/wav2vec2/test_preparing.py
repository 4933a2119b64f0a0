"""What is prepared of a wav2vec 2.0: all that is used, once, and computed with as published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.tiny_wav2vec2 import save_aligner, tiny_model, with_old_names
from volume.layout import PREPARED
from worker.errors import SetupError
from worker.prepare import prepare
from worker.wav2vec2.loading import load_wav2vec2
from worker.wav2vec2.preparing import prepare_wav2vec2

CPU = torch.device("cpu")
SAMPLES = torch.randn(1, 4_000, generator=torch.Generator().manual_seed(5))
FORMS = pytest.mark.parametrize("form", ["english", "chinese", "embedded", "odd"])
LETTERS = tuple("abc")


def logits(folder: Path) -> Tensor:
    with torch.inference_mode():
        return load_wav2vec2(folder, CPU, head=True).logits(SAMPLES)


@FORMS
def test_what_is_prepared_in_float32_computes_the_same_to_the_bit(
    tmp_path: Path, form: str
) -> None:
    tiny_model(form).save_pretrained(tmp_path)
    published = logits(tmp_path)
    (tmp_path / PREPARED).mkdir()
    prepare_wav2vec2(tmp_path, tmp_path / PREPARED, head=True)
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(logits(tmp_path), published)


@FORMS
def test_an_aligner_is_prepared_in_halves_and_hears_almost_the_same(
    tmp_path: Path, form: str
) -> None:
    folder = save_aligner(tmp_path / "aligner", form, LETTERS)
    published = logits(folder)
    prepare(folder, folder / PREPARED)
    stored = load_file(folder / PREPARED / "model.safetensors")
    kinds = {dtype: {n for n, t in stored.items() if t.dtype == dtype}
             for dtype in (torch.float16, torch.float32)}  # fmt: skip
    assert kinds[torch.float16] == {name for name, tensor in stored.items() if tensor.dim() > 1}
    assert len(kinds[torch.float16]) + len(kinds[torch.float32]) == len(stored)
    (folder / "model.safetensors").unlink()
    difference = (logits(folder) - published).abs().max()
    assert 0 < difference < 0.01 * published.std()


def test_a_pickle_with_older_names_gives_the_same_file(tmp_path: Path) -> None:
    """As the published Chinese aligner and the published features are."""
    folder = save_aligner(tmp_path / "aligner", "chinese", LETTERS)
    prepare(folder, tmp_path / "expected")
    tensors = load_file(folder / "model.safetensors")
    torch.save(with_old_names(tensors), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    prepare(folder, tmp_path / "found")
    found, expected = (tmp_path / name / "model.safetensors" for name in ("found", "expected"))
    assert found.read_bytes() == expected.read_bytes()


def test_what_was_prepared_before_is_not_what_it_is_made_from(tmp_path: Path) -> None:
    """A repair prepares beside a damaged file."""
    folder = save_aligner(tmp_path / "aligner", "english", LETTERS)
    prepare(folder, folder / PREPARED)
    expected = (folder / PREPARED / "model.safetensors").read_bytes()
    (folder / PREPARED / "model.safetensors").write_bytes(b"damaged")
    prepare(folder, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == expected


def test_the_layers_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    tiny_model("chinese").save_pretrained(tmp_path)
    (tmp_path / PREPARED).mkdir()
    prepare_wav2vec2(tmp_path, tmp_path / PREPARED, layers=2)
    names = load_file(tmp_path / PREPARED / "model.safetensors")
    layers = {name.split(".")[2] for name in names if name.startswith("encoder.layers.")}
    assert layers == {"0", "1"}
    for left_out in ("lm_head.weight", "encoder.layer_norm.weight", "masked_spec_embed"):
        assert left_out not in names
    (tmp_path / "model.safetensors").unlink()
    load_wav2vec2(tmp_path, CPU, 2)


def test_a_weight_that_float16_cannot_hold_stays_as_it_is(tmp_path: Path) -> None:
    folder = save_aligner(tmp_path / "aligner", "english", LETTERS)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][0, 0] = 70_000.0
    save_file(tensors, folder / "model.safetensors")
    prepare(folder, tmp_path / "prepared")
    stored = load_file(tmp_path / "prepared" / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], tensors["lm_head.weight"])


def test_of_weights_that_do_not_fit_nothing_is_written(tmp_path: Path) -> None:
    folder = save_aligner(tmp_path / "aligner", "english", LETTERS)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SetupError, match=r"lm_head\.bias is missing"):
        prepare(folder, tmp_path / "prepared")
    assert not (tmp_path / "prepared" / "model.safetensors").exists()
