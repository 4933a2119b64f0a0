"""A checkpoint that transformers 5 saved is read, prepared and spoken with as one of 4 is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.checkpoints import make_checkpoint
from tests.support.transformers_5 import FILES, SIZES, save_as_5
from volume.layout import PREPARED
from worker.speech.batch.sampling import Sampling
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.wav2vec2 import FeatureConfig
from worker.speech.engine import Engine, Utterance
from worker.speech.lm.config import LMConfig
from worker.speech.native.lm import LmKernel
from worker.speech.prepare import prepare
from worker.speech.prompt import Prompter
from worker.speech.voice import Voice

CPU = torch.device("cpu")
CLIP = Path(__file__).parents[4] / "volume" / "demo" / "voices" / "demo.wav"
TEXTS = (
    "They'll walk 12 miles; it's cold.",
    "今天天气很好。",
    "Two  spaces, two\n\nlines: cafe\u0301.",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same checkpoint as transformers 4 and as transformers 5 saves it."""
    folder = tmp_path_factory.mktemp("saved")
    saved_by_4 = make_checkpoint(folder / "by_4", SIZES)
    return saved_by_4, save_as_5(saved_by_4, folder / "by_5")


def speak(folder: Path, dtype: str, kind: str) -> list[Utterance]:
    """Two sentences of 40 tokens."""
    engine = Engine.load(folder, dtype, "cpu")
    assert type(engine._lm).__name__ == kind
    sampling = Sampling(max_tokens=40, min_tokens=40, seed=3)
    return list(engine.speak(["The winter.", "The water."], Voice((1, 2, 3, 4, 5)), sampling))


def assert_equal(spoken: list[Utterance], expected: list[Utterance]) -> None:
    for one, other in zip(spoken, expected, strict=True):
        assert len(set(one.semantic_tokens)) > 5  # it babbles: equal tokens are no accident
        assert one.semantic_tokens == other.semantic_tokens
        np.testing.assert_array_equal(one.samples, other.samples)


def test_the_files_are_those_of_another_version(pair: tuple[Path, Path]) -> None:
    by_4, by_5 = (json.loads((folder / "LLM" / "config.json").read_text()) for folder in pair)
    assert by_5["transformers_version"] == "5.17.0"
    assert "rope_theta" not in by_5
    if by_4["transformers_version"].startswith("4."):
        assert by_4["rope_theta"] == by_5["rope_parameters"]["rope_theta"] == 1e6
    size = sum(path.stat().st_size for path in FILES.rglob("*.json"))
    assert size < 50_000  # they lie in the repository


def test_the_same_sizes_are_read(pair: tuple[Path, Path]) -> None:
    models, features = zip(
        *(
            (LMConfig.read(c.language_model / "config.json"), FeatureConfig.read(c.features))
            for c in map(Checkpoint, pair)
        ),
        strict=True,
    )
    assert models[0] == models[1]
    assert models[1].rope_theta == 1e6
    assert features[0] == features[1]


def test_the_same_prompts_are_made(pair: tuple[Path, Path]) -> None:
    sizes = Codec.load(Checkpoint(pair[0]), find_upstream(), CPU).sizes
    voice = Voice((1, 2, 3, 4, 5))
    by_4, by_5 = (
        [Prompter.load(folder / "LLM" / "tokenizer.json", sizes).speech_prompt(text, voice)
         for text in TEXTS]
        for folder in pair
    )  # fmt: skip
    assert by_4 == by_5


def test_the_same_is_heard_in_a_reference(pair: tuple[Path, Path]) -> None:
    by_4, by_5 = (
        Codec.load(Checkpoint(path), find_upstream(), CPU).tokenize(CLIP) for path in pair
    )
    assert by_4 == by_5


def test_the_same_is_said_in_float32(pair: tuple[Path, Path]) -> None:
    by_4, by_5 = (speak(folder, "float32", "LanguageModel") for folder in pair)
    assert_equal(by_5, by_4)


def test_the_same_is_said_in_int8(pair: tuple[Path, Path], kernel: LmKernel) -> None:
    by_4, by_5 = (speak(folder, "int8", "Int8LanguageModel") for folder in pair)
    assert_equal(by_5, by_4)


@pytest.mark.slow("needs compiled C")
def test_it_is_prepared_and_says_the_same(pair: tuple[Path, Path]) -> None:
    for folder in pair:
        prepare(folder, folder / PREPARED)
    by_4, by_5 = (folder / PREPARED for folder in pair)
    for part in ("LLM", "BiCodec", "wav2vec2-large-xlsr-53"):
        tensors = load_file(by_5 / part / "model.safetensors")
        for name, expected in load_file(by_4 / part / "model.safetensors").items():
            assert torch.equal(tensors.pop(name), expected)
        assert not tensors
    spoken, expected = (speak(folder, "bfloat16", "LanguageModel") for folder in (pair[1], pair[0]))
    assert_equal(spoken, expected)
