"""wav2vec 2.0, up to the layers whose hidden states are Spark-TTS's semantic features.

The published weights under their published names. What comes out equals transformers'
`Wav2Vec2Model` to float rounding; what is left out is what the features do not depend on: the
layers after the last one used, dropout, masks. Convolutions are products of shifted views, time
first, so that no kernel is compiled for a length that has not been seen before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.errors import SetupError
from worker.speech.checkpoint import read_extractor, read_json
from worker.speech.codec.weight_norm import fold
from worker.speech.tensors import map_pickle, map_tensors

FEATURE_LAYERS = (11, 14, 16)  # hidden states whose mean is the semantic feature
LAYERS = max(FEATURE_LAYERS)  # hidden state n is what n layers make
CHUNK = 250  # frames of 20 ms that the convolutions make at a time: their memory is bounded


@dataclass(frozen=True)
class FeatureConfig:
    """The model's sizes, as config.json and the feature extractor's file give them."""

    hidden: int
    inner: int  # channels of the feed-forward layers
    heads: int
    epsilon: float
    channels: tuple[int, ...]  # of each convolution
    convolution_bias: bool
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    position_groups: int
    position_kernel: int
    group_norm: bool  # of the first convolution's channels over time; else each has a layer norm
    final_norm: bool  # the model ends with hidden state 16, so that has its last normalisation
    normalize: bool  # the clip to mean 0 and variance 1

    @classmethod
    def read(cls, folder: Path) -> FeatureConfig:
        """Read both files of a folder. Raises SetupError for a model of another architecture."""
        config = read_json(folder / "config.json")
        activations = {config.get("hidden_act", "gelu"), config.get("feat_extract_activation")}
        layers = int(config["num_hidden_layers"])
        if layers < LAYERS:
            raise SetupError(f"wav2vec2 needs {LAYERS} layers or more")
        norm = config.get("feat_extract_norm", "group")
        if (
            not config.get("do_stable_layer_norm")
            or norm not in {"group", "layer"}
            or activations - {"gelu", None}
            or config.get("adapter_attn_dim")
        ):
            raise SetupError(
                "this wav2vec2 is of another architecture than Spark-TTS's: it needs "
                "do_stable_layer_norm, gelu and no adapters"
            )
        extractor = read_extractor(folder)
        return cls(
            hidden=int(config["hidden_size"]),
            inner=int(config["intermediate_size"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config.get("layer_norm_eps", 1e-5)),
            channels=tuple(config["conv_dim"]),
            convolution_bias=bool(config.get("conv_bias", False)),
            kernels=tuple(config["conv_kernel"]),
            strides=tuple(config["conv_stride"]),
            position_groups=int(config["num_conv_pos_embedding_groups"]),
            position_kernel=int(config["num_conv_pos_embeddings"]),
            group_norm=norm == "group",
            final_norm=layers == LAYERS,
            normalize=bool(extractor.get("do_normalize", True)),
        )


class Wav2Vec2Features:
    """Turns samples at 16 kHz into semantic features, 50 a second."""

    def __init__(self, config: FeatureConfig, tensors: dict[str, Tensor]) -> None:
        self.config = config
        self._tensors = tensors

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Wav2Vec2Features:
        """Load a folder in transformers' layout, in float32; on a CPU the weights stay mapped.

        Raises SetupError where the files do not fit.
        """
        config = FeatureConfig.read(folder)
        pickled = folder / "pytorch_model.bin"
        safe = folder / "model.safetensors"
        found = map_tensors(safe) if safe.is_file() else map_pickle(pickled)
        found = {name.removeprefix("wav2vec2."): tensor for name, tensor in found.items()}
        wanted = [name for name in found if _is_used(name)]
        tensors = fold({name: found[name].to(device, torch.float32) for name in wanted})
        tensors |= {
            name: tensor.permute(2, 0, 1).contiguous()  # [out, in, kernel] -> [kernel, out, in]
            for name, tensor in tensors.items()
            if name.startswith("feature_extractor.") and name.endswith(".conv.weight")
        }
        _check(config, tensors)
        return cls(config, tensors)

    def __call__(self, samples: Tensor) -> Tensor:
        """Turn mono samples [n] at 16 kHz into the mean hidden state, [1, frames, hidden]."""
        states = self.hidden_states(samples)
        return torch.stack([states[layer] for layer in FEATURE_LAYERS]).sum(0) / len(FEATURE_LAYERS)

    def hidden_states(self, samples: Tensor) -> dict[int, Tensor]:
        """Compute the hidden states of FEATURE_LAYERS of samples [n], each [1, frames, hidden]."""
        config = self.config
        if config.normalize:
            samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        x = self._norm("feature_projection.layer_norm", self._frames(samples), config.epsilon)
        x = self._linear("feature_projection.projection", x)
        x = x + self._positions(x)
        states = {}
        for layer in range(LAYERS):
            x = self._layer(f"encoder.layers.{layer}.", x)
            if layer + 1 in FEATURE_LAYERS:
                states[layer + 1] = x[None]
        if config.final_norm:
            states[LAYERS] = self._norm("encoder.layer_norm", x, config.epsilon)[None]
        return states

    def _frames(self, samples: Tensor) -> Tensor:
        """Run the convolutions over samples [n]: [frames, channels].

        A layer norm looks at one frame alone, so that frames can be made some at a time; a group
        norm looks at all of the clip.
        """
        if self.config.group_norm:
            return self._convolve(samples)
        field, hop = _receptive_field(self.config), _hop(self.config)
        count = (len(samples) - field) // hop + 1
        chunks = [
            self._convolve(samples[start * hop : (min(start + CHUNK, count) - 1) * hop + field])
            for start in range(0, count, CHUNK)
        ]
        return torch.cat(chunks)

    def _convolve(self, samples: Tensor) -> Tensor:
        config = self.config
        x = samples[:, None]
        for i, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True)):
            name = f"feature_extractor.conv_layers.{i}."
            weight = self._tensors[name + "conv.weight"]  # [kernel, out, in]
            bias = self._tensors.get(name + "conv.bias")
            length = (len(x) - kernel) // stride + 1
            if x.shape[1] == 1:
                x = F.linear(x[:, 0].unfold(0, kernel, stride), weight[..., 0].T, bias)
            else:
                taps = [x[tap : tap + stride * (length - 1) + 1 : stride] for tap in range(kernel)]
                x = F.linear(taps[0], weight[0], bias)
                for tap in range(1, kernel):
                    x.addmm_(taps[tap], weight[tap].T)
            if config.group_norm and i == 0:
                scale, shift = (self._tensors[name + f"layer_norm.{w}"] for w in ("weight", "bias"))
                x = F.group_norm(x.T[None], len(scale), scale, shift)[0].T
            elif not config.group_norm:
                x = self._norm(name + "layer_norm", x, 1e-5)
            x = F.gelu(x)
        return x

    def _positions(self, x: Tensor) -> Tensor:
        """Embed positions [frames, hidden]: by a grouped convolution over surroundings."""
        weight = self._tensors["encoder.pos_conv_embed.conv.weight"]  # [hidden, group, kernel]
        bias = self._tensors["encoder.pos_conv_embed.conv.bias"]
        groups, kernel = self.config.position_groups, weight.shape[2]
        width = len(weight) // groups
        padded = F.pad(x.T, (kernel // 2, kernel // 2 - (1 - kernel % 2)))  # [hidden, frames + ..]
        made = []
        for group in range(groups):
            rows = slice(group * width, (group + 1) * width)
            views = padded[rows].unfold(1, kernel, 1)  # [group, frames, kernel]
            views = views.transpose(0, 1).reshape(len(x), -1)
            made.append(F.linear(views, weight[rows].reshape(width, -1), bias[rows]))
        return F.gelu(torch.cat(made, 1))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        """Run one transformer layer over x [frames, hidden]."""
        y = self._norm(name + "layer_norm", x, self.config.epsilon)
        q, k, v = (
            self._linear(f"{name}attention.{what}_proj", y)
            .view(len(x), self.config.heads, -1)
            .transpose(0, 1)[None]
            for what in "qkv"
        )  # [1, heads, frames, channels]
        y = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)
        x = x + self._linear(name + "attention.out_proj", y)
        y = self._norm(name + "final_layer_norm", x, self.config.epsilon)
        y = F.gelu(self._linear(name + "feed_forward.intermediate_dense", y))
        return x + self._linear(name + "feed_forward.output_dense", y)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._tensors[name + ".weight"], self._tensors[name + ".bias"])

    def _norm(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        weight, bias = self._tensors[name + ".weight"], self._tensors[name + ".bias"]
        return F.layer_norm(x, weight.shape, weight, bias, epsilon)


def _is_used(name: str) -> bool:
    part, _, rest = name.partition("encoder.layers.")
    if not part and rest:
        return int(rest.split(".")[0]) < LAYERS
    return name.startswith(("encoder.", "feature_"))


def _receptive_field(config: FeatureConfig) -> int:
    """How many samples one frame is made from."""
    field = 1
    for kernel, stride in zip(reversed(config.kernels), reversed(config.strides), strict=True):
        field = (field - 1) * stride + kernel
    return field


def _hop(config: FeatureConfig) -> int:
    """How many samples lie between the begins of two frames."""
    return int(torch.Size(config.strides).numel())


def _check(config: FeatureConfig, tensors: dict[str, Tensor]) -> None:
    """Raise SetupError naming a tensor that is missing or of another shape."""
    for name, shape in _shapes(config).items():
        if name not in tensors:
            raise SetupError(f"wav2vec2's weights do not fit its config: {name} is missing")
        there = tuple(tensors[name].shape)
        if there != shape:
            raise SetupError(
                f"wav2vec2's weights do not fit its config: {name} is {there}, not {shape}"
            )


def _shapes(config: FeatureConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that the features depend on; convolutions as [kernel, out, in]."""
    hidden, inner = config.hidden, config.inner
    shapes: dict[str, tuple[int, ...]] = {}
    channels = (1, *config.channels)
    for i, kernel in enumerate(config.kernels):
        name = f"feature_extractor.conv_layers.{i}."
        shapes[name + "conv.weight"] = (kernel, channels[i + 1], channels[i])
        if config.convolution_bias:
            shapes[name + "conv.bias"] = (channels[i + 1],)
        if not config.group_norm or i == 0:
            shapes |= _affine(name + "layer_norm", channels[i + 1])
    shapes |= _affine("feature_projection.layer_norm", channels[-1])
    shapes |= _affine("feature_projection.projection", hidden, channels[-1])
    position = "encoder.pos_conv_embed.conv"
    shapes[position + ".weight"] = (
        hidden,
        hidden // config.position_groups,
        config.position_kernel,
    )
    shapes[position + ".bias"] = (hidden,)
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}."
        for norm in ("layer_norm", "final_layer_norm"):
            shapes |= _affine(name + norm, hidden)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _affine(f"{name}attention.{part}", hidden, hidden)
        shapes |= _affine(name + "feed_forward.intermediate_dense", inner, hidden)
        shapes |= _affine(name + "feed_forward.output_dense", hidden, inner)
    if config.final_norm:
        shapes |= _affine("encoder.layer_norm", hidden)
    return shapes


def _affine(name: str, outputs: int, *inputs: int) -> dict[str, tuple[int, ...]]:
    return {name + ".weight": (outputs, *inputs), name + ".bias": (outputs,)}
