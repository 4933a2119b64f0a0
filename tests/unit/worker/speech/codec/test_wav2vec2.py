"""wav2vec2's features against transformers', on tiny models of each kind that is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from worker.errors import SetupError
from worker.speech.codec.wav2vec2 import FEATURE_LAYERS, FeatureConfig, Wav2Vec2Features

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
    names = set(Wav2Vec2Features.load(make(tmp_path, num_hidden_layers=18), CPU)._network._tensors)
    assert any(name.startswith("encoder.layers.15.") for name in names)
    assert not any(name.startswith(("encoder.layers.16.", "masked")) for name in names)


@pytest.fixture(scope="module")
def just(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """The files of a model with just the layers used, and its tensors."""
    folder = make(tmp_path_factory.mktemp("just"), num_hidden_layers=16)
    return folder, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 15}, "needs 16 layers or more"),
        ({"do_stable_layer_norm": False}, "another architecture.*do_stable_layer_norm"),
        ({"feat_extract_norm": "batch"}, "another architecture"),
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
