"""A prepared checkpoint against the published one that it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support import any_cpu
from tests.support.checkpoints import make_checkpoint
from tests.support.random_checkpoint import Sizes
from tests.support.weight_norm import is_weight_normed
from volume.layout import PREPARED
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import POSTNET, Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.wav2vec2 import Wav2Vec2Features
from worker.speech.device import has_fast_bfloat16
from worker.speech.engine import Engine
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_weights import PACKED, Weights
from worker.speech.lm.loading import DTYPES
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel
from worker.speech.prepare import prepare

CPU = torch.device("cpu")
WAVEFORM_TOLERANCE = 1e-6  # of full scale: equal weights that lie elsewhere in memory; seen: 6e-8
CLIP = Path(__file__).parents[2] / "volume" / "demo" / "voices" / "demo.wav"


COMPILED = pytest.mark.slow("needs compiled C")


@pytest.fixture(scope="module")
def kernel() -> LmKernel:
    return any_cpu.lm_kernel()


@pytest.fixture(params=["float32", pytest.param("bfloat16", marks=COMPILED)])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """What the wave generator computes in; a CPU that is slow at it makes float32 of bfloat16."""
    return DTYPES[request.param]


@pytest.fixture(scope="module", params=[pytest.param("demo", marks=COMPILED), "deep"])
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


def codecs(pair: tuple[Path, Path], dtype: torch.dtype) -> tuple[Codec, Codec]:
    """Of the published and of the prepared folder, as the engine loads them."""
    published, prepared = map(Checkpoint, pair)
    upstream = find_upstream()
    return (
        Codec.load(published, upstream, CPU, dtype),
        Codec.load(prepared, upstream, CPU, dtype, published=published),
    )


def test_audio_gives_the_same_tokens_and_tokens_the_same_waveform(
    pair: tuple[Path, Path], dtype: torch.dtype
) -> None:
    """Also where the wave generator computes in float32, in which it is read as published."""
    published, prepared = codecs(pair, dtype)
    assert prepared.dtype == published.dtype
    assert prepared.tokenize(CLIP) == published.tokenize(CLIP)
    rng = np.random.default_rng(5)
    sizes = published.sizes
    voice = tuple(map(int, rng.integers(0, sizes.global_codes, sizes.voice_length)))
    semantic = tuple(map(int, rng.integers(0, sizes.semantic_codes, 70)))
    difference = prepared.decode(voice, semantic) - published.decode(voice, semantic)
    assert np.abs(difference).max() <= WAVEFORM_TOLERANCE


def test_the_codecs_weights_are_the_same_to_the_bit(
    pair: tuple[Path, Path], dtype: torch.dtype
) -> None:
    """The packed ones of a CPU's wave generator are no part of the state: the waveform has them."""
    published, prepared = (codec._bicodec.state_dict() for codec in codecs(pair, dtype))
    assert published.keys() == prepared.keys()
    assert all(torch.equal(published[name], prepared[name]) for name in published)


def test_the_features_are_the_same_to_the_bit(pair: tuple[Path, Path]) -> None:
    """Those of transformers, which tests/parity/test_features.py holds them against."""
    samples = torch.from_numpy(np.random.default_rng(1).standard_normal(8000, np.float32))
    with torch.inference_mode():
        published, prepared = (
            Wav2Vec2Features.load(Checkpoint(path).features, CPU).hidden_states(samples)
            for path in pair
        )
    assert published.keys() == prepared.keys()
    assert all(torch.equal(published[layer], prepared[layer]) for layer in published)


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
    assert not any(name.startswith(POSTNET) for name in codec)
    rounded = {name for name, tensor in codec.items() if tensor.dtype == torch.bfloat16}
    assert rounded == {n for n in codec if n.startswith("decoder.") and n.endswith(".weight")}


def test_the_language_model_in_int8_is_the_published_one_to_the_bit(
    demo_checkpoint: Path, tmp_path: Path, kernel: LmKernel
) -> None:
    """It is packed from the published weights, and not from those that bfloat16 has rounded."""
    with any_cpu.kernels(*LmKernel.interface.extensions):
        prepare(demo_checkpoint, tmp_path / "prepared")
    published, prepared = Checkpoint(demo_checkpoint), Checkpoint(tmp_path / "prepared")
    assert (prepared.language_model / PACKED).is_file()
    config = LMConfig.read(published.language_model / "config.json")
    expected, found = (
        Weights.read(checkpoint.language_model, config, kernel).tensors
        for checkpoint in (published, prepared)
    )
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


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
    if has_fast_bfloat16(CPU):  # else the wave generator computes in float32
        (published / "BiCodec" / "model.safetensors").unlink()
    assert Engine.load(published, "bfloat16", "cpu").sample_rate == 16000
