"""Our wav2vec2 against transformers', on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.wav2vec2 import FEATURE_LAYERS, Wav2Vec2Features

CLIP = Path(__file__).parents[2] / "volume" / "demo" / "voices" / "demo.wav"
TOLERANCE = 1e-5  # of the greatest value: float32's rounding; greatest seen: 2e-6


@pytest.mark.parametrize("pickled", [False, True])
def test_hidden_states_are_transformers(checkpoint: Path, tmp_path: Path, pickled: bool) -> None:
    published = Checkpoint(checkpoint).features
    model = Wav2Vec2Model.from_pretrained(published, dtype=torch.float32).eval()
    folder = published
    if pickled:  # as the published model is: torch's format and the older names of weight norm
        folder = tmp_path
        for name in ("config.json", "preprocessor_config.json"):
            (folder / name).write_text((published / name).read_text())
        tensors = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): tensor
            for name, tensor in model.state_dict().items()
        }
        torch.save(tensors, folder / "pytorch_model.bin")
    wav, rate = soundfile.read(CLIP, dtype="float32")
    processor = Wav2Vec2FeatureExtractor.from_pretrained(published)
    inputs = processor(wav, sampling_rate=rate, return_tensors="pt").input_values
    with torch.inference_mode():
        expected = model(inputs, output_hidden_states=True).hidden_states
        states = Wav2Vec2Features.load(folder, torch.device("cpu")).hidden_states(
            torch.from_numpy(wav)
        )
    for layer in FEATURE_LAYERS:
        greatest = expected[layer].abs().max().item()
        difference = (states[layer] - expected[layer]).abs().max().item()
        print(f"layer {layer}: greatest difference {difference:.2e} of {greatest:.1f}")
        assert difference <= TOLERANCE * greatest
