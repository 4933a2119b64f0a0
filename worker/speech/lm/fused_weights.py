"""A published language model's weights as the fused kernels read them: in tiles, some joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.speech.cuda import lm as kernels
from worker.speech.lm.config import LMConfig

HALF = kernels.TILE // 2


@dataclass(frozen=True)
class Tiles:
    """A matrix [outputs, inputs] in tiles."""

    weights: Tensor  # bfloat16 [outputs / 16, inputs / 32, 2, 8, 4, 2, 2, 2]; see cuda/lm.cu
    inputs: int
    outputs: int

    @classmethod
    def of(cls, weight: Tensor) -> Tiles:
        """Lay out weight [outputs, inputs], whose outputs are in the order of the tiles."""
        outputs, inputs = weight.shape
        tiles = weight.view(-1, 2, HALF, inputs // kernels.CHUNK, 4, 2, 2, 2)
        return cls(tiles.permute(0, 3, 5, 2, 4, 6, 1, 7).contiguous(), inputs, outputs)

    def structure(self, product: str) -> kernels.Matrix:
        """The matrix as the kernel of this product takes it; this must outlive that."""
        warps = kernels.warps_for(product, self.inputs)
        return kernels.Matrix(self.weights.data_ptr(), self.inputs, self.outputs, warps)


@dataclass(frozen=True)
class FusedLayer:
    """One layer: matrices in tiles, vectors in float32."""

    qkv: Tiles
    qkv_bias: Tensor  # in the order of the tiles
    out: Tiles
    gate_up: Tiles
    down: Tiles
    attention_norm: Tensor
    mlp_norm: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], config: LMConfig) -> FusedLayer:
        """Join and lay out the tensors of a layer, named as in the published file."""

        def joined(what: str, *names: str) -> Tensor:
            return torch.cat([tensors[f"{name}.{what}"] for name in names])

        qkv = [f"self_attn.{name}_proj" for name in "qkv"]
        rotated = pairs(config.head_dim // 2, config.num_attention_heads + 2 * _kv(config))
        gate_up = joined("weight", "mlp.gate_proj", "mlp.up_proj")
        return cls(
            qkv=Tiles.of(joined("weight", *qkv)[rotated]),
            qkv_bias=joined("bias", *qkv)[rotated].float(),
            out=Tiles.of(tensors["self_attn.o_proj.weight"]),
            gate_up=Tiles.of(gate_up[pairs(config.intermediate_size, 1)]),
            down=Tiles.of(tensors["mlp.down_proj.weight"]),
            attention_norm=tensors["input_layernorm.weight"].float(),
            mlp_norm=tensors["post_attention_layernorm.weight"].float(),
        )


def pairs(apart: int, groups: int) -> Tensor:
    """An order of outputs in which a tile's halves are outputs that lie so far `apart`.

    Of each group of 2 * apart, where apart is a multiple of 8: 8 of its first half, then those
    that belong to them.
    """
    order = torch.arange(groups * 2 * apart).view(groups, 2, apart // HALF, HALF)
    return order.transpose(1, 2).flatten()


def why_unsupported(config: LMConfig) -> str | None:
    """Why the kernels cannot run a model of these sizes; None where they can."""
    sharing = config.num_attention_heads / _kv(config)
    if config.head_dim not in kernels.HEAD_SIZES:
        return f"its heads have {config.head_dim} channels, not one of {kernels.HEAD_SIZES}"
    if sharing != int(sharing) or sharing > kernels.MOST_SHARING:
        return f"{sharing:g} queries share a key"
    for name in ("hidden_size", "intermediate_size"):
        if getattr(config, name) % kernels.CHUNK:
            return f"its {name} is no multiple of {kernels.CHUNK}"
    return None


def _kv(config: LMConfig) -> int:
    return config.num_key_value_heads
