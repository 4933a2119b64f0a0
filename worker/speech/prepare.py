"""Writes a published checkpoint anew, as files that load faster.

| part     | published           | prepared                                                      |
|----------|---------------------|---------------------------------------------------------------|
| LLM      | float32, 2.0 GB     | bfloat16, what a GPU computes in, 1.0 GB; and the layers in   |
|          |                     | 8 bits, packed for a CPU, 0.4 GB                              |
| BiCodec  | float32, 0.63 GB    | 0.44 GB: weight norm folded, by torch's own formula; the wave |
|          |                     | generator in bfloat16; no postnet, which speech does not run  |
| wav2vec2 | 24 layers, a pickle | the 16 that the features depend on, safetensors, 0.86 GB      |

The layout is the published one. What computes in float32 is loaded from the published files where
the prepared ones are rounded. The 8 bits are packed by the worker's own kernel: where this machine
cannot run it, no such file is written, and a start packs what lies in bfloat16.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.model_files.weight_norm import fold
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import POSTNET, WAVE_GENERATOR
from worker.speech.codec.wav2vec2 import LAYERS
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_weights import PACKED, Weights, why_unsupported
from worker.speech.native.lm import LmKernel
from worker.wav2vec2.preparing import prepare_wav2vec2

WEIGHTS = {"model.safetensors", "pytorch_model.bin"}


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
    _pack(source.language_model, target.language_model / PACKED)
    save_file(
        lighten_codec(fold(load_file(source.codec / "model.safetensors"))),
        target.codec / "model.safetensors",
        metadata={"format": "pt"},
    )
    prepare_wav2vec2(source.features, target.features, LAYERS)


def halve(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Round float32 tensors to bfloat16; the others stay as they are."""
    return {
        name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in tensors.items()
    }


def lighten_codec(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave the postnet out, and round the weights of the wave generator's convolutions.

    Its other tensors are small, and stay exact.
    """
    lighter = {name: tensor for name, tensor in tensors.items() if not name.startswith(POSTNET)}
    weights = {
        name: tensor
        for name, tensor in lighter.items()
        if name.startswith(WAVE_GENERATOR) and name.endswith(".weight")
    }
    return lighter | halve(weights)


def _pack(language_model: Path, packed: Path) -> None:
    """Write a language model's layers in 8 bits, where they and this machine suit the kernel."""
    config = LMConfig.read(language_model / "config.json")
    kernel = None if why_unsupported(config) else LmKernel.open()
    if kernel is not None:
        save_arrays(Weights.read(language_model, config, kernel).tensors, packed)
