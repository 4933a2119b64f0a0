"""wav2vec2's features against transformers', on tiny models of each kind that is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from worker.errors import SetupError
from worker.speech.codec import wav2vec2 as features_module
from worker.speech.codec.wav2vec2 import CHUNK, FEATURE_LAYERS, FeatureConfig, Wav2Vec2Features

CPU = torch.device("cpu")
HOP, FIELD = 320, 400  # samples from one frame to the next, and that one frame is made from
KINDS: dict[str, dict[str, Any]] = {
    "published": {"num_hidden_layers": 18},
    "just the layers used": {"num_hidden_layers": 16},
    "group norm, an odd reach": {
        "feat_extract_norm": "group",
        "conv_bias": False,
        "num_hidden_layers": 17,
        "num_conv_pos_embeddings": 5,
    },
}


def make(folder: Path, normalize: bool | None = True, **changes: Any) -> Path:
    """A random wav2vec2 in its published files."""
    torch.manual_seed(2)
    kind = {
        "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24,
        "conv_dim": (8,) * 7, "conv_bias": True, "feat_extract_norm": "layer",
        "do_stable_layer_norm": True, "num_conv_pos_embeddings": 6,
        "num_conv_pos_embedding_groups": 2, "initializer_range": 0.3,
        "num_hidden_layers": 17,
    }  # fmt: skip
    model = Wav2Vec2Model(Wav2Vec2Config(**(kind | changes)))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "layer_norm" in name:
            torch.nn.init.normal_(parameter, mean="weight" in name, std=0.3)
    model.save_pretrained(folder)
    processor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000}
    if normalize is not None:
        processor["do_normalize"] = normalize
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def sound(frames: int, more: int = 0) -> Tensor:
    """Samples that are just as many as so many frames need, not of mean 0 nor of variance 1."""
    count = (frames - 1) * HOP + FIELD + more
    return 0.1 + 0.3 * torch.randn(count, generator=torch.Generator().manual_seed(frames))


def theirs(folder: Path, samples: Tensor) -> tuple[Tensor, ...]:
    model = Wav2Vec2Model.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    inputs = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        states: tuple[Tensor, ...] = model(inputs, output_hidden_states=True).hidden_states
    return states


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("wav2vec2"), **KINDS[request.param])


def test_the_feature_is_the_mean_of_transformers_hidden_states(folder: Path) -> None:
    samples = sound(9)
    expected = theirs(folder, samples)
    features = Wav2Vec2Features.load(folder, CPU)
    states = features.hidden_states(samples)
    assert list(states) == list(FEATURE_LAYERS) == [11, 14, 16]
    for layer, state in states.items():
        torch.testing.assert_close(state, expected[layer], rtol=1e-4, atol=1e-4)
    mean = (expected[11] + expected[14] + expected[16]) / 3
    torch.testing.assert_close(features(samples), mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frames", "more"), [(1, 0), (6, 319), (7, 0), (8, 0), (14, 5), (15, 0)])
def test_frames_made_some_at_a_time_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, frames: int, more: int
) -> None:
    """Below, at and above a whole number of chunks, and with samples that make no frame."""
    features, samples = Wav2Vec2Features.load(folder, CPU), sound(frames, more)
    at_once = features(samples)
    assert frames < CHUNK
    assert at_once.shape == (1, frames, 16)
    monkeypatch.setattr(features_module, "CHUNK", 7)
    torch.testing.assert_close(features(samples), at_once, rtol=1e-4, atol=1e-5)


def test_convolutions_make_a_bounded_number_of_frames_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, made = Wav2Vec2Features.load(make(tmp_path), CPU), []
    convolve = Wav2Vec2Features._convolve

    def watched(self: Wav2Vec2Features, samples: Tensor) -> Tensor:
        made.append(len(convolve(self, samples)))
        return convolve(self, samples)

    monkeypatch.setattr(Wav2Vec2Features, "_convolve", watched)
    features(sound(2 * CHUNK + 1))
    assert made == [CHUNK, CHUNK, 1]


@pytest.mark.parametrize(("normalize", "same"), [(True, True), (None, True), (False, False)])
def test_a_louder_clip_is_the_same_where_the_processor_normalises(
    tmp_path: Path, normalize: bool | None, same: bool
) -> None:
    folder = make(tmp_path, normalize)
    features, samples = Wav2Vec2Features.load(folder, CPU), sound(5)
    quiet, loud = features(samples), features(3 * samples + 0.2)
    assert torch.allclose(quiet, loud, rtol=1e-2, atol=1e-2) is same
    torch.testing.assert_close(
        features.hidden_states(samples)[16], theirs(folder, samples)[16], rtol=1e-4, atol=1e-4
    )


def test_silence_gives_numbers(tmp_path: Path) -> None:
    assert Wav2Vec2Features.load(make(tmp_path), CPU)(torch.zeros(4 * HOP)).isfinite().all()


def test_only_what_the_features_depend_on_is_loaded(tmp_path: Path) -> None:
    names = set(Wav2Vec2Features.load(make(tmp_path, num_hidden_layers=18), CPU)._tensors)
    assert any(name.startswith("encoder.layers.15.") for name in names)
    assert not any(name.startswith(("encoder.layers.16.", "masked")) for name in names)


def test_files_of_a_larger_model_and_of_torch_are_taken(tmp_path: Path) -> None:
    """Names with a prefix and weight norm in its older form, in halves, as a pickle."""
    folder = make(tmp_path)
    samples, expected = sound(4), Wav2Vec2Features.load(folder, CPU)(sound(4))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    old = {".parametrizations.weight.original0": ".weight_g"} | {
        ".parametrizations.weight.original1": ".weight_v"
    }
    renamed = {}
    for name, tensor in tensors.items():
        for new, older in old.items():
            name = name.replace(new, older)  # noqa: PLW2901 - one of two, or neither
        renamed[f"wav2vec2.{name}"] = tensor
    torch.save(renamed, folder / "pytorch_model.bin")
    assert torch.equal(Wav2Vec2Features.load(folder, CPU)(samples), expected)
    torch.save({name: t.double() for name, t in renamed.items()}, folder / "pytorch_model.bin")
    assert torch.equal(Wav2Vec2Features.load(folder, CPU)(samples), expected)
    save_file(tensors, folder / "model.safetensors")  # which comes before the pickle
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert torch.equal(Wav2Vec2Features.load(folder, CPU)(samples), expected)


@pytest.fixture(scope="module")
def just(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """The files of a model with just the layers used, and its tensors."""
    folder = make(tmp_path_factory.mktemp("just"), num_hidden_layers=16)
    return folder, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 15}, "needs 16 layers or more"),
        ({"do_stable_layer_norm": False}, "another architecture"),
        ({"feat_extract_norm": "batch"}, "another architecture"),
        ({"hidden_act": "relu"}, "another architecture"),
        ({"feat_extract_activation": "relu"}, "another architecture"),
        ({"adapter_attn_dim": 16}, "another architecture"),
    ],
)
def test_a_model_of_another_shape_is_refused(
    just: tuple[Path, dict[str, Tensor]], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    config, folder = just[0] / "config.json", tmp_path
    raw = json.loads(config.read_text())
    FeatureConfig.read(just[0])
    (folder / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(SetupError, match=words):
        Wav2Vec2Features.load(folder, CPU)


@pytest.mark.parametrize(
    "name",
    [
        "feature_extractor.conv_layers.6.conv.bias",
        "feature_extractor.conv_layers.3.layer_norm.weight",
        "feature_projection.layer_norm.bias",
        "feature_projection.projection.weight",
        "encoder.pos_conv_embed.conv.bias",
        "encoder.layers.15.final_layer_norm.weight",
        "encoder.layers.0.attention.k_proj.bias",
        "encoder.layers.15.feed_forward.output_dense.weight",
        "encoder.layer_norm.weight",
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(
    just: tuple[Path, dict[str, Tensor]], name: str
) -> None:
    folder, tensors = just
    less = {other: tensor for other, tensor in tensors.items() if other != name}
    save_file(less, folder / "model.safetensors")
    with pytest.raises(SetupError, match=f"{name} is missing"):
        Wav2Vec2Features.load(folder, CPU)
    twice = {name: torch.cat([tensors[name]] * 2)}
    save_file(tensors | twice, folder / "model.safetensors")
    with pytest.raises(SetupError, match=rf"{name} is \(.*\), not \("):
        Wav2Vec2Features.load(folder, CPU)
