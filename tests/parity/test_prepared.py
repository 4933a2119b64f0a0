"""A prepared checkpoint against the published one that it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2Model

from tests.support.checkpoints import make_checkpoint
from tests.support.random_checkpoint import Sizes
from tests.support.weight_norm import is_weight_normed
from volume.layout import PREPARED
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.wav2vec2 import FEATURE_LAYERS
from worker.speech.engine import Engine
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.prepare import LAYERS_USED, prepare

CPU = torch.device("cpu")
WAVEFORM_TOLERANCE = 1e-6  # of full scale: equal weights that lie elsewhere in memory; seen: 6e-8
CLIP = Path(__file__).parents[2] / "volume" / "demo" / "voices" / "demo.wav"


@pytest.fixture(scope="module", params=["demo", "deep"])
def pair(
    request: pytest.FixtureRequest, demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The demo, and a random one with more wav2vec2 layers than are used, as the published has."""
    folder = tmp_path_factory.mktemp("prepared")
    published = demo_checkpoint
    if request.param == "deep":
        published = make_checkpoint(folder / "deep", Sizes(feature_layers=24))
    prepare(published, folder / "prepared")
    return published, folder / "prepared"


def test_audio_gives_the_same_tokens_and_tokens_the_same_waveform(pair: tuple[Path, Path]) -> None:
    published, prepared = (Codec.load(Checkpoint(path), find_upstream(), CPU) for path in pair)
    assert prepared.tokenize(CLIP) == published.tokenize(CLIP)
    rng = np.random.default_rng(5)
    sizes = published.sizes
    voice = tuple(map(int, rng.integers(0, sizes.global_codes, sizes.voice_length)))
    semantic = tuple(map(int, rng.integers(0, sizes.semantic_codes, 70)))
    difference = prepared.decode(voice, semantic) - published.decode(voice, semantic)
    assert np.abs(difference).max() <= WAVEFORM_TOLERANCE


def test_the_codecs_weights_are_the_same_to_the_bit(pair: tuple[Path, Path]) -> None:
    published, prepared = (
        Codec.load(Checkpoint(path), find_upstream(), CPU)._bicodec.state_dict() for path in pair
    )
    assert published.keys() == prepared.keys()
    assert all(torch.equal(published[name], prepared[name]) for name in published)


def test_the_features_are_the_same_to_the_bit(pair: tuple[Path, Path]) -> None:
    wav = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 8000), np.float32))
    hidden = []
    for path in pair:
        model = Wav2Vec2Model.from_pretrained(Checkpoint(path).features, dtype=torch.float32).eval()
        with torch.inference_mode():
            hidden.append(model(wav, output_hidden_states=True).hidden_states)
    for layer in FEATURE_LAYERS:
        assert torch.equal(hidden[0][layer], hidden[1][layer])
    assert len(hidden[1]) <= LAYERS_USED + 1


def test_the_language_model_is_the_published_one_in_bfloat16(pair: tuple[Path, Path]) -> None:
    states = [
        LanguageModel.load(Checkpoint(path).language_model, torch.bfloat16, CPU).state_dict()
        for path in pair
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_nothing_is_left_of_what_loading_would_only_throw_away(pair: tuple[Path, Path]) -> None:
    published, prepared = (Checkpoint(path) for path in pair)
    codec = load_file(prepared.codec / "model.safetensors")
    assert is_weight_normed(load_file(published.codec / "model.safetensors"))
    assert not is_weight_normed(codec)
    decoder = load_file(prepared.language_model / "model.safetensors")
    assert torch.float32 not in {tensor.dtype for tensor in decoder.values()}


@pytest.mark.slow("compiles C")
def test_the_engine_takes_the_prepared_files_but_float32_from_the_published(
    tmp_path: Path,
) -> None:
    published = make_checkpoint(tmp_path / "model")
    before = Engine.load(published, "float32", "cpu")
    prepare(published, published / PREPARED)
    after = Engine.load(published, "float32", "cpu")
    names = before._lm.state_dict()
    assert all(torch.equal(after._lm.state_dict()[name], names[name]) for name in names)
    (published / "LLM" / "model.safetensors").unlink()
    (published / "BiCodec" / "model.safetensors").unlink()
    assert Engine.load(published, "bfloat16", "cpu").sample_rate == 16000
