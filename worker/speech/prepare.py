"""Writes a published checkpoint anew, as files that load faster.

python -m worker.speech.prepare PUBLISHED PREPARED

| part     | published                 | prepared                                                |
|----------|---------------------------|---------------------------------------------------------|
| LLM      | float32, 2 GB             | bfloat16, what a GPU computes in; half the bytes        |
| BiCodec  | weight norm as two factors| folded into one weight, by torch's own formula          |
| wav2vec2 | 24 layers, a pickle       | the 17 that the features depend on, safetensors         |

The layout is the published one. A language model in float32 is loaded from the published files.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.model_files.weight_norm import fold
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.wav2vec2 import FEATURE_LAYERS

WEIGHTS = {"model.safetensors", "pytorch_model.bin"}
# Hidden state 16 is the input of the 17th layer. In a model of 16 layers it would be the model's
# output, after a normalisation that the published model's hidden state 16 has not seen.
LAYERS_USED = max(FEATURE_LAYERS) + 1


def prepare(published: Path, prepared: Path) -> None:
    """Write the new folder `prepared`. Raises SetupError when `published` is incomplete."""
    source, target = Checkpoint(published), Checkpoint(prepared)
    source.check()
    for path in (source.language_model, source.codec, source.features):
        shutil.copytree(path, prepared / path.name, ignore=lambda _, names: WEIGHTS & set(names))
    shutil.copy(published / "config.yaml", prepared / "config.yaml")
    save_file(
        halve(load_file(source.language_model / "model.safetensors")),
        target.language_model / "model.safetensors",
        metadata={"format": "pt"},
    )
    save_file(
        fold(load_file(source.codec / "model.safetensors")),
        target.codec / "model.safetensors",
        metadata={"format": "pt"},
    )
    from transformers import Wav2Vec2Config, Wav2Vec2Model  # noqa: PLC0415 - 5 s of imports

    config = Wav2Vec2Config.from_pretrained(source.features)
    config.num_hidden_layers = min(config.num_hidden_layers, LAYERS_USED)
    Wav2Vec2Model.from_pretrained(
        source.features, config=config, dtype="auto", local_files_only=True
    ).save_pretrained(target.features)


def halve(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Round float32 tensors to bfloat16; the others stay as they are."""
    return {
        name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in tensors.items()
    }


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
