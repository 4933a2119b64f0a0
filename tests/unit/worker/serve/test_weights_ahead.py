"""Which files a start reads ahead: those that it loads, all of them, in the order of their use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.support import any_cpu
from tests.support.language_model import make_tensors, write_model
from volume.layout import PREPARED, Layout
from worker import cpu_info
from worker.serve.weights_ahead import weights_in_order
from worker.settings import Settings

FEATURES = "wav2vec2-large-xlsr-53"
WEIGHTS = "model.safetensors"
TOKENIZER = f"{PREPARED}/LLM/tokenizer.json"
ALIGNERS = ["aligner-en", "aligner-zh"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared model on a volume with aligners of two languages, one of them prepared."""
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS)
    set_gpu(monkeypatch, tmp_path, there=False)
    models = Layout(tmp_path).models
    model = models / "voice@1"
    for folder in (model, model / PREPARED):
        write_model(folder / "LLM", make_tensors())
        for part in ("BiCodec", FEATURES):
            (folder / part).mkdir()
            (folder / part / WEIGHTS).touch()
    (model / PREPARED / "LLM" / "int8.safetensors").touch()
    for name in ALIGNERS:
        (models / f"{name}@1").mkdir()
    (models / "aligner-en@1" / PREPARED).mkdir()
    (models / "aligner-en@1" / PREPARED / WEIGHTS).touch()
    monkeypatch.setattr("volume.layout.pinned_revision", lambda _name: None)
    return model


def set_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path, *, there: bool) -> None:
    monkeypatch.setattr(cpu_info, "GPU", folder if there else folder / "none")


def read(model: Path, dtype: str = "auto", languages: str = "en,zh") -> list[str]:
    """The paths below the model's folder, or below that of all models."""
    settings = Settings(
        runpod_volume=model.parents[2], spark_dtype=dtype, whisperx_languages=languages
    )
    assert all(path.is_absolute() for path, _ in weights_in_order(settings, model))
    return [
        str(path.relative_to(model if path.is_relative_to(model) else model.parent))
        for path, _ in weights_in_order(settings, model)
    ]


ALIGNER_FILES = [f"aligner-en@1/{PREPARED}/{WEIGHTS}", "aligner-zh@1/pytorch_model.bin"]


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_a_cpu_reads_the_packed_model_first_and_what_is_mapped_last(
    model: Path, dtype: str
) -> None:
    assert read(model, dtype) == [
        TOKENIZER,
        f"{PREPARED}/LLM/int8.safetensors",
        f"{PREPARED}/BiCodec/{WEIGHTS}",
        *ALIGNER_FILES,
        f"{PREPARED}/LLM/{WEIGHTS}",
        f"{PREPARED}/{FEATURES}/{WEIGHTS}",
    ]


def test_of_a_packed_models_other_file_the_embedding_alone_is_read(model: Path) -> None:
    tensors = make_tensors()
    save_file(
        {name: t.bfloat16() for name, t in tensors.items()}, model / PREPARED / "LLM" / WEIGHTS
    )
    settings = Settings(runpod_volume=model.parents[2])
    parts = [(path, ranges) for path, ranges in weights_in_order(settings, model) if ranges]
    ((path, ((first, end),)),) = parts
    with safe_open(path, "pt") as file:
        embedding = file.get_tensor("model.embed_tokens.weight")
    raw = path.read_bytes()[first:end]
    assert torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).equal(embedding.flatten())


def test_a_model_that_could_not_be_packed_is_read_whole(model: Path) -> None:
    (model / PREPARED / "LLM" / "int8.safetensors").unlink()
    settings = Settings(runpod_volume=model.parents[2], whisperx_languages="zh")
    assert read(model, languages="zh")[1] == f"{PREPARED}/LLM/{WEIGHTS}"
    assert all(ranges is None for _, ranges in weights_in_order(settings, model))


def test_a_gpu_reads_the_rounded_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, model, there=True)
    monkeypatch.setattr(cpu_info, "flags", frozenset)  # that of its host says nothing
    assert read(model) == [
        TOKENIZER,
        f"{PREPARED}/BiCodec/{WEIGHTS}",
        f"{PREPARED}/{FEATURES}/{WEIGHTS}",
        f"{PREPARED}/LLM/{WEIGHTS}",
        *ALIGNER_FILES,
    ]


def test_what_computes_in_float32_is_read_as_published(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = [
        TOKENIZER,
        f"BiCodec/{WEIGHTS}",
        f"{PREPARED}/{FEATURES}/{WEIGHTS}",  # which is exact
        f"LLM/{WEIGHTS}",
        *ALIGNER_FILES,
    ]
    assert read(model, "float32") == exact
    assert read(model, "bfloat16")[3] == f"{PREPARED}/LLM/{WEIGHTS}"
    monkeypatch.setattr(cpu_info, "flags", frozenset)  # slow at bfloat16, and not the kernel's
    assert read(model) == exact


def test_a_model_that_is_not_prepared_is_read_as_published(model: Path) -> None:
    (model / PREPARED).rename(model / "aside")
    (model / FEATURES / WEIGHTS).unlink()  # a pickle, as published
    assert read(model, languages="en") == [
        "LLM/tokenizer.json",
        f"LLM/{WEIGHTS}",
        f"BiCodec/{WEIGHTS}",
        ALIGNER_FILES[0],
        f"{FEATURES}/pytorch_model.bin",
    ]


def test_a_models_own_aligner_is_read_and_a_missing_one_is_not(model: Path) -> None:
    (model / "aligner").mkdir()
    (model / "aligner" / WEIGHTS).touch()
    (model.parent / "aligner-zh@1").rmdir()
    aligners = [path for path in read(model) if "aligner" in path]
    assert aligners == [f"aligner/{WEIGHTS}"]


def test_sizes_that_are_none_of_the_kernels_are_read_for_torch(model: Path) -> None:
    config = json.loads((model / PREPARED / "LLM" / "config.json").read_text())
    (model / PREPARED / "LLM" / "config.json").write_text(
        json.dumps(config | {"intermediate_size": 80})
    )
    assert f"{PREPARED}/LLM/int8.safetensors" not in read(model)
