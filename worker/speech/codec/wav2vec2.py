"""wav2vec 2.0, up to the layers whose hidden states are Spark-TTS's semantic features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worker.errors import SetupError
from worker.speech.checkpoint import read_extractor
from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.loading import load_wav2vec2
from worker.wav2vec2.network import Wav2Vec2

FEATURE_LAYERS = (11, 14, 16)  # hidden states whose mean is the semantic feature
LAYERS = max(FEATURE_LAYERS)  # hidden state n is what n layers make


@dataclass(frozen=True)
class FeatureConfig:
    """The model's sizes, and how it wants its samples."""

    network: Wav2Vec2Config
    final_norm: bool  # the model ends with hidden state 16, so that has its last normalisation
    normalize: bool  # the clip to mean 0 and variance 1

    @classmethod
    def read(cls, folder: Path) -> FeatureConfig:
        """Read both files of a folder. Raises SetupError for a model of another architecture."""
        network = Wav2Vec2Config.read(folder)
        layers = network.layers
        if layers < LAYERS:
            raise SetupError(f"wav2vec2 needs {LAYERS} layers or more")
        if not network.stable:
            raise SetupError(
                "this wav2vec2 is of another architecture than Spark-TTS's: it needs "
                "do_stable_layer_norm"
            )
        return cls(
            network,
            final_norm=layers == LAYERS,
            normalize=bool(read_extractor(folder).get("do_normalize", True)),
        )


class Wav2Vec2Features:
    """Turns samples at 16 kHz into semantic features, 50 a second."""

    def __init__(self, config: FeatureConfig, network: Wav2Vec2) -> None:
        self.config = config
        self._network = network

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Wav2Vec2Features:
        """Load a folder in transformers' layout, in float32; on a CPU the weights stay mapped.

        The layers after the last one used are left out. Raises SetupError where the files do not
        fit.
        """
        config = FeatureConfig.read(folder)
        return cls(config, load_wav2vec2(folder, device, LAYERS))

    def __call__(self, samples: Tensor) -> Tensor:
        """Turn mono samples [n] at 16 kHz into the mean hidden state, [1, frames, hidden]."""
        states = self.hidden_states(samples)
        return torch.stack([states[layer] for layer in FEATURE_LAYERS]).sum(0) / len(FEATURE_LAYERS)

    def hidden_states(self, samples: Tensor) -> dict[int, Tensor]:
        """Compute the hidden states of FEATURE_LAYERS of samples [n], each [1, frames, hidden]."""
        if self.config.normalize:
            samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        states = {
            layer: state
            for layer, state in enumerate(self._network.states(samples[None]), 1)
            if layer in FEATURE_LAYERS
        }
        if self.config.final_norm:
            states[LAYERS] = self._network.normed(states[LAYERS])
        return states
