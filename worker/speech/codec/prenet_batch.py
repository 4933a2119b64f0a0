"""BiCodec's prenet on a GPU, over the tokens of many chunks that lie in one sequence.

Between two chunks lies a gap of positions that belong to nobody. Upstream's modules run as they
are, but for what would let chunks see each other or have each other's voice:

    convolutions     their input is zeroed in the gaps, as they see zeros beyond a sequence's ends
    adaptive norms   scale and shift each position by its own chunk's voice

Everything else looks at one position at a time.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.codec.packing import NOBODY


class PrenetBatch:
    """Turns the tokens of chunks in one sequence into their features."""

    def __init__(self, bicodec: Any) -> None:
        """`bicodec` is upstream's; its prenet is changed, and runs from now on only in here."""
        self._quantizer = bicodec.quantizer
        self._speaker = bicodec.speaker_encoder
        self._prenet = bicodec.prenet
        self._places = _Places()
        for module in self._prenet.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                module.register_forward_pre_hook(self._places.without_gaps)
        for parent in list(self._prenet.modules()):
            for name, child in parent.named_children():
                if _is_adaptive(child):
                    setattr(parent, name, _VoiceNorm(child, self._places))

    def __call__(self, codes: Tensor, owners: Tensor, voices: Tensor) -> Tensor:
        """Turn semantic tokens [n] into features [1, C, n]; in the gaps they mean nothing.

        `owners` [n] says for each position which of the `voices` (global tokens [v, 32]) speaks it,
        or NOBODY.
        """
        self._places.put(owners)
        conditions = self._speaker.detokenize(voices[:, None])  # [v, C]
        features: Tensor = self._prenet(self._quantizer.detokenize(codes[None]), conditions)
        return features + self._places.of_each(conditions).t()


class _Places:
    """Whose each position is, for the modules within."""

    def __init__(self) -> None:
        self._gaps: Tensor | None = None  # bool [n]
        self._owners: Tensor | None = None  # [n], somebody's in the gaps too

    def put(self, owners: Tensor) -> None:
        self._gaps = owners == NOBODY
        self._owners = owners.clamp_min(0)

    def without_gaps(self, _module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """Zero a convolution's input [1, C, n] in the gaps."""
        return inputs[0].masked_fill(self._gaps, 0)  # type: ignore[arg-type] # put before each run

    def of_each(self, rows: Tensor) -> Tensor:
        """Give each position [n, C] what its voice has in [v, C]."""
        return rows.index_select(0, self._owners)  # type: ignore[arg-type] # put before each run


class _VoiceNorm(nn.Module):
    """Upstream's AdaLayerNorm, with a voice for each position."""

    def __init__(self, norm: Any, places: _Places) -> None:
        super().__init__()
        self._norm = norm
        self._places = places

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """Normalise x [1, n, C], scaled and shifted by the conditions [v, D] of its voices."""
        scale, shift = self._norm.scale(conditions), self._norm.shift(conditions)
        x = F.layer_norm(x, (self._norm.dim,), eps=self._norm.eps)
        return x * self._places.of_each(scale) + self._places.of_each(shift)


def _is_adaptive(module: Any) -> bool:
    """Whether it is upstream's AdaLayerNorm: a norm that a condition scales and shifts."""
    return all(isinstance(getattr(module, name, None), nn.Linear) for name in ("scale", "shift"))
