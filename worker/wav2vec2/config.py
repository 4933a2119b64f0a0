"""The sizes of a wav2vec 2.0 and which of its two published forms it has, from config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.errors import SetupError
from worker.model_files.json_object import read_json


@dataclass(frozen=True)
class Wav2Vec2Config:
    """What of a folder's config.json the network is built by.

    Two forms are published: the large XLSR's with `stable` layer norms and a layer norm behind
    each convolution, and facebook/wav2vec2-base-960h's, which has neither. Each mixture of the two
    is taken.
    """

    hidden: int
    inner: int  # channels of the feed-forward layers
    heads: int
    layers: int
    letters: int | None  # what a CTC head scores; None where the file does not say
    epsilon: float
    channels: tuple[int, ...]  # of each convolution
    convolution_bias: bool
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    position_groups: int
    position_kernel: int
    group_norm: bool  # of the first convolution's channels over time; else each has a layer norm
    stable: bool  # norms stand before what they are for, and behind the last layer

    @classmethod
    def read(cls, folder: Path) -> Wav2Vec2Config:
        """Read a folder's config.json. Raises SetupError for a model of another architecture."""
        raw = read_json(folder / "config.json")
        if (reason := _why_unsupported(raw)) is not None:
            raise SetupError(f"{folder.name}: this wav2vec2 is of another architecture: {reason}")
        try:
            return _config(raw)
        except (KeyError, TypeError, ValueError) as error:
            raise SetupError(
                f"{folder.name}/config.json does not give the sizes of a wav2vec2: {error!r}"
            ) from error

    def frames(self, samples: int) -> int:
        """How many frames are made of so many samples."""
        return frames_behind(self.kernels, self.strides, samples)

    @property
    def receptive_field(self) -> int:
        """How many samples one frame is made from."""
        field = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            field = (field - 1) * stride + kernel
        return field

    @property
    def hop(self) -> int:
        """How many samples lie between the begins of two frames."""
        hop = 1
        for stride in self.strides:
            hop *= stride
        return hop


def frames_behind(kernels: tuple[int, ...], strides: tuple[int, ...], samples: int) -> int:
    """How many frames are behind convolutions of so many samples."""
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = max(0, (samples - kernel) // stride + 1)
    return samples


def _why_unsupported(raw: dict[str, Any]) -> str | None:
    """Why this network cannot be run here; None where it can."""
    reasons = {
        "it is no wav2vec2": raw.get("model_type", "wav2vec2") != "wav2vec2",
        "its feat_extract_norm is neither group nor layer": (
            raw.get("feat_extract_norm", "group") not in {"group", "layer"}
        ),
        "its activations are not gelu": any(
            raw.get(name, "gelu") not in {"gelu", None}
            for name in ("hidden_act", "feat_extract_activation")
        ),
        "it has adapters": bool(raw.get("adapter_attn_dim") or raw.get("add_adapter")),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _config(raw: dict[str, Any]) -> Wav2Vec2Config:
    channels, kernels, strides = (
        tuple(int(size) for size in raw[name])
        for name in ("conv_dim", "conv_kernel", "conv_stride")
    )
    if not len(channels) == len(kernels) == len(strides):
        raise ValueError("conv_dim, conv_kernel and conv_stride are not of one length")
    letters = raw.get("vocab_size")
    return Wav2Vec2Config(
        hidden=int(raw["hidden_size"]),
        inner=int(raw["intermediate_size"]),
        heads=int(raw["num_attention_heads"]),
        layers=int(raw["num_hidden_layers"]),
        letters=None if letters is None else int(letters),
        epsilon=float(raw.get("layer_norm_eps", 1e-5)),
        channels=channels,
        convolution_bias=bool(raw.get("conv_bias", False)),
        kernels=kernels,
        strides=strides,
        position_groups=int(raw["num_conv_pos_embedding_groups"]),
        position_kernel=int(raw["num_conv_pos_embeddings"]),
        group_norm=raw.get("feat_extract_norm", "group") == "group",
        stable=bool(raw.get("do_stable_layer_norm", False)),
    )
