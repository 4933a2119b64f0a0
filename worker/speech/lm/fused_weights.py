"""A published language model's weights as the fused kernels read them: in tiles, some joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.cuda import lm as kernels
from worker.speech.lm.config import LMConfig

HALF = kernels.TILE // 2
MOST = 127  # of a weight in 8 bits


@dataclass(frozen=True)
class Tiles:
    """A matrix [outputs, inputs] in tiles."""

    # bfloat16 [outputs / 16, inputs / 32, 2, 8, 4, 2, 2, 2], or in 8 bits uint8 [outputs / 16,
    # inputs / 32, 8, 4, 2, 2, 2, 2]; see cuda/lm_products.cuh
    weights: Tensor
    inputs: int
    outputs: int
    # Float32 [outputs / 16, warps of its product, 16], where the weights are in 8 bits.
    scales: Tensor | None = None

    @classmethod
    def of(cls, weight: Tensor) -> Tiles:
        """Lay out weight [outputs, inputs], whose outputs are in the order of the tiles."""
        outputs, inputs = weight.shape
        tiles = _tiled(weight)
        return cls(tiles.permute(0, 3, 5, 2, 4, 6, 1, 7).contiguous(), inputs, outputs)

    @classmethod
    def in_int8(cls, weight: Tensor, product: str) -> Tiles:
        """Lay out the same in 8 bits, for the kernels of one product."""
        outputs, inputs = weight.shape
        parts, scales = rounded(weight, kernels.warps_for(product, inputs))
        scales = scales.view(-1, kernels.TILE, scales.shape[1]).transpose(1, 2)
        tiles = _tiled(parts).permute(0, 3, 2, 4, 5, 6, 7, 1)
        signs = (tiles < 0).to(torch.uint8) << 7
        coded = tiles.abs().to(torch.uint8) | signs.flip(-1)
        return cls(coded.contiguous(), inputs, outputs, scales.contiguous())

    def structure(self, product: str) -> kernels.Matrix:
        """The matrix as the kernel of this product takes it; this must outlive that."""
        warps = kernels.warps_for(product, self.inputs)
        scales = None if self.scales is None else self.scales.data_ptr()
        return kernels.Matrix(self.weights.data_ptr(), scales, self.inputs, self.outputs, warps)


@dataclass(frozen=True)
class FusedLayer:
    """One layer: matrices in tiles, of bfloat16 or all of int8; vectors in float32."""

    qkv: Tiles
    qkv_bias: Tensor  # in the order of the tiles
    out: Tiles
    gate_up: Tiles
    down: Tiles
    attention_norm: Tensor
    mlp_norm: Tensor

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        config: LMConfig,
        *,
        int8: bool = False,
    ) -> FusedLayer:
        """Join and lay out the tensors of a layer, named as in the published file.

        Raises KeyError for one that is missing or of another shape.
        """
        for name, shape in _shapes(config).items():
            if tuple(tensors[name].shape) != shape:
                raise KeyError(f"{name} is {tuple(tensors[name].shape)}, not {shape}")

        def joined(what: str, *names: str) -> Tensor:
            return torch.cat([tensors[f"{name}.{what}"] for name in names])

        def tiles(product: str, weight: Tensor) -> Tiles:
            return Tiles.in_int8(weight, product) if int8 else Tiles.of(weight)

        qkv = [f"self_attn.{name}_proj" for name in "qkv"]
        rotated = pairs(config.head_dim // 2, config.num_attention_heads + 2 * _kv(config))
        gate_up = joined("weight", "mlp.gate_proj", "mlp.up_proj")
        return cls(
            qkv=tiles("project", joined("weight", *qkv)[rotated]),
            qkv_bias=joined("bias", *qkv)[rotated].float(),
            out=tiles("add", tensors["self_attn.o_proj.weight"]),
            gate_up=tiles("gate", gate_up[pairs(config.intermediate_size, 1)]),
            down=tiles("add", tensors["mlp.down_proj.weight"]),
            attention_norm=tensors["input_layernorm.weight"].float(),
            mlp_norm=tensors["post_attention_layernorm.weight"].float(),
        )


def _shapes(config: LMConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a layer by name, and their shapes: kernels look at none."""
    wide, inner = config.hidden_size, config.intermediate_size
    narrow = _kv(config) * config.head_dim
    return {
        "input_layernorm.weight": (wide,),
        "post_attention_layernorm.weight": (wide,),
        "self_attn.q_proj.weight": (wide, wide),
        "self_attn.q_proj.bias": (wide,),
        "self_attn.k_proj.weight": (narrow, wide),
        "self_attn.k_proj.bias": (narrow,),
        "self_attn.v_proj.weight": (narrow, wide),
        "self_attn.v_proj.bias": (narrow,),
        "self_attn.o_proj.weight": (wide, wide),
        "mlp.gate_proj.weight": (inner, wide),
        "mlp.up_proj.weight": (inner, wide),
        "mlp.down_proj.weight": (wide, inner),
    }


def rounded(weight: Tensor, warps: int) -> tuple[Tensor, Tensor]:
    """Round weight [outputs, inputs] to 8 bits: int8, and float32 scales [outputs, warps].

    Of an output's weights those that one warp multiplies have a scale of their own; the greatest of
    them becomes 127, or -127. `shares` says which these are.
    """
    exact = weight.float()
    of_chunks = exact.abs().view(len(exact), -1, kernels.CHUNK).amax(2)
    of_turns = F.pad(of_chunks, (0, -of_chunks.shape[1] % warps)).view(len(exact), -1, warps)
    scales = of_turns.amax(1) / MOST
    divisors = scales.clamp(min=torch.finfo(torch.float32).tiny)
    return (exact / divisors[:, shares(weight, warps)]).round().to(torch.int8), scales


def shares(weight: Tensor, warps: int) -> Tensor:
    """Of each input of weight [outputs, inputs] the warp that multiplies it: long [inputs]."""
    of_chunks = torch.arange(weight.shape[1] // kernels.CHUNK, device=weight.device) % warps
    return of_chunks.repeat_interleave(kernels.CHUNK)


def _tiled(weight: Tensor) -> Tensor:
    """View [outputs, inputs]: tile, half, output, chunk, quarter, product, pair, input of it."""
    return weight.view(-1, 2, HALF, weight.shape[1] // kernels.CHUNK, 4, 2, 2, 2)


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
