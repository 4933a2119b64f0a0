"""Loads a wav2vec 2.0 from a folder in transformers' layout, whatever form its weights have.

model.safetensors or pytorch_model.bin; names of the model itself or of one that has it inside;
weight norm in either of torch's two forms, or folded; float32, or halves of either kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from worker.model_files.tensors import map_pickle, map_tensors
from worker.model_files.weight_norm import fold
from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.files import PICKLED_WEIGHTS, weights_of
from worker.wav2vec2.network import Wav2Vec2
from worker.wav2vec2.shapes import LAYERS, MATRIX, Shapes, check_shapes, shapes_of
from worker.wav2vec2.widening import HALVES


def load_wav2vec2(
    folder: Path, device: torch.device, layers: int | None = None, *, head: bool = False
) -> Wav2Vec2:
    """Load the first `layers` layers (all by default), and with `head` a CTC model's.

    All is computed in float32. On a CPU, weights in float32 stay mapped, and so do the
    layers' matrices in halves (`widening`). Raises SetupError naming what does not fit.
    """
    config = Wav2Vec2Config.read(folder)
    layers = config.layers if layers is None else layers
    wanted = shapes_of(config, layers, head=head)
    found = used(map_weights(weights_of(folder)), wanted)
    tensors = fold({name: _loaded(name, tensor, device) for name, tensor in found.items()})
    check_shapes(folder.name, wanted, tensors)
    return Wav2Vec2(config, {name: _laid_out(name, tensors[name]) for name in wanted}, layers)


def _loaded(name: str, tensor: Tensor, device: torch.device) -> Tensor:
    matrix = name.startswith(LAYERS) and tensor.dim() == MATRIX
    if device.type == "cpu" and matrix and tensor.dtype in HALVES:
        return tensor
    return tensor.to(device).float()


def map_weights(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a file of either kind."""
    return map_pickle(path) if path.name == PICKLED_WEIGHTS else map_tensors(path)


def used(found: Mapping[str, Tensor], wanted: Shapes) -> dict[str, Tensor]:
    """Of a file's tensors those that the wanted ones are made of, by the model's own names."""
    modules = {name.rpartition(".")[0] for name in wanted}
    named = {name.removeprefix("wav2vec2."): tensor for name, tensor in found.items()}
    return {
        name: tensor
        for name, tensor in named.items()
        if name.partition(".parametrizations.")[0] in modules or name.rpartition(".")[0] in modules
    }


def _laid_out(name: str, tensor: Tensor) -> Tensor:
    """A convolution's weight [out, in, kernel] as [kernel, out, in]; all others as they are."""
    if name.startswith("feature_extractor.") and name.endswith(".conv.weight"):
        return tensor.permute(2, 0, 1).contiguous()
    return tensor
