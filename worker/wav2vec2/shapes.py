"""The tensors that a wav2vec 2.0 is made of: their names as published, and their shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from worker.errors import SetupError
from worker.wav2vec2.config import Wav2Vec2Config

Shapes = dict[str, tuple[int, ...]]
HEAD = "lm_head"
POSITIONS = "encoder.pos_conv_embed.conv"
LAYERS = "encoder.layers."
MATRIX = 2  # dimensions


def shapes_of(config: Wav2Vec2Config, layers: int, *, head: bool) -> Shapes:
    """The shape of each tensor of the first `layers` layers; convolutions as [out, in, kernel].

    With all layers there is the norm behind them, too; `head` is that of a CTC model. Raises
    SetupError where the config does not say how many letters that has.
    """
    shapes = _convolutions(config)
    shapes |= _affine("feature_projection.layer_norm", config.channels[-1])
    shapes |= _affine("feature_projection.projection", config.hidden, config.channels[-1])
    group = config.hidden // config.position_groups
    shapes |= _affine(POSITIONS, config.hidden, group, config.position_kernel)
    for layer in range(layers):
        shapes |= _layer(config, f"{LAYERS}{layer}.")
    if layers == config.layers or not config.stable:
        shapes |= _affine("encoder.layer_norm", config.hidden)
    if head:
        if config.letters is None:
            raise SetupError("this wav2vec2 scores no letters: its config has no vocab_size")
        shapes |= _affine(HEAD, config.letters, config.hidden)
    return shapes


def check_shapes(model: str, wanted: Shapes, tensors: Mapping[str, Tensor]) -> None:
    """Raise SetupError naming a tensor of the model that is missing or of another shape."""
    for name, shape in wanted.items():
        told = f"{model}: wav2vec2's weights do not fit its config: {name} is"
        if name not in tensors:
            raise SetupError(f"{told} missing")
        if (there := tuple(tensors[name].shape)) != shape:
            raise SetupError(f"{told} {there}, not {shape}")


def _convolutions(config: Wav2Vec2Config) -> Shapes:
    shapes: Shapes = {}
    channels = (1, *config.channels)
    for i, kernel in enumerate(config.kernels):
        name = f"feature_extractor.conv_layers.{i}."
        shapes[name + "conv.weight"] = (channels[i + 1], channels[i], kernel)
        if config.convolution_bias:
            shapes[name + "conv.bias"] = (channels[i + 1],)
        if not config.group_norm or i == 0:
            shapes |= _affine(name + "layer_norm", channels[i + 1])
    return shapes


def _layer(config: Wav2Vec2Config, name: str) -> Shapes:
    hidden, inner = config.hidden, config.inner
    shapes: Shapes = {}
    for norm in ("layer_norm", "final_layer_norm"):
        shapes |= _affine(name + norm, hidden)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= _affine(f"{name}attention.{part}", hidden, hidden)
    shapes |= _affine(name + "feed_forward.intermediate_dense", inner, hidden)
    shapes |= _affine(name + "feed_forward.output_dense", hidden, inner)
    return shapes


def _affine(name: str, outputs: int, *inputs: int) -> Shapes:
    return {name + ".weight": (outputs, *inputs), name + ".bias": (outputs,)}
