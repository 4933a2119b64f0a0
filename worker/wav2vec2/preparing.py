"""Writes a wav2vec 2.0 anew, as a file that loads faster: what is used of it, and no more."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from worker.model_files.weight_norm import fold
from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.files import WEIGHTS, published_weights_of
from worker.wav2vec2.loading import map_weights, used
from worker.wav2vec2.shapes import MATRIX, check_shapes, shapes_of


def prepare_wav2vec2(
    published: Path,
    prepared: Path,
    layers: int | None = None,
    *,
    head: bool = False,
    halved: bool = False,
) -> None:
    """Write the weights of the first `layers` layers (all by default) into the folder `prepared`.

    They are folded and in float32, so that the network computes the same to the bit. `halved`, the
    matrices are rounded to float16, which has three bits more than bfloat16: weights are small.
    With `head` there is a CTC model's. Raises SetupError naming what does not fit.
    """
    config = Wav2Vec2Config.read(published)
    wanted = shapes_of(config, config.layers if layers is None else layers, head=head)
    found = used(map_weights(published_weights_of(published)), wanted)
    tensors = fold({name: tensor.float() for name, tensor in found.items()})
    check_shapes(published.name, wanted, tensors)
    kept = {name: tensors[name].contiguous() for name in wanted}
    if halved:
        kept = {name: _halved(tensor) for name, tensor in kept.items()}
    save_file(kept, prepared / WEIGHTS, metadata={"format": "pt"})


def _halved(tensor: Tensor) -> Tensor:
    """A matrix in float16, where that holds all its values; vectors are small, and stay exact."""
    half = tensor.half()
    return half if tensor.dim() >= MATRIX and bool(half.isfinite().all()) else tensor
