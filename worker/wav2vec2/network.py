"""wav2vec 2.0: samples -> hidden states of frames of 20 ms, and a CTC model's scores of letters.

What comes out equals transformers' `Wav2Vec2Model` and `Wav2Vec2ForCTC` to float rounding; what is
left out is what only a training needs. Rows of different lengths are heard as each by itself: the
convolutions never look at what follows, their norm over time is told where a row ends, positions
see zeros behind it, and attention has a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.wav2vec2.config import Wav2Vec2Config
from worker.wav2vec2.convolutions import Convolutions
from worker.wav2vec2.shapes import HEAD, LAYERS, POSITIONS
from worker.wav2vec2.widening import HALVES, Widening


class Wav2Vec2:
    """The network, with its tensors under their published names."""

    def __init__(self, config: Wav2Vec2Config, tensors: Mapping[str, Tensor], layers: int) -> None:
        """`tensors` are as `loading` gives them; there are `layers` layers of them."""
        self.config = config
        self._tensors = tensors
        self._layers = layers
        self._convolutions = Convolutions(config, tensors)
        halves = (tensor.numel() for tensor in tensors.values() if tensor.dtype in HALVES)
        self._widening = Widening(max(halves, default=0))

    def logits(self, samples: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """Score the letters of a CTC model: samples [rows, n] -> [rows, frames, letters].

        Of each row, as many samples as `sizes` says are heard; without it all are.
        """
        x = samples
        for state in self.states(samples, sizes):
            x = state
        return self._linear(HEAD, self.normed(x) if self.config.stable else x)

    def states(self, samples: Tensor, sizes: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Compute the hidden state [rows, frames, hidden] behind each layer, the first first.

        Of a row's frames, those of its own samples are of use. Where norms are `stable`, that of
        the model's end is not yet applied.
        """
        x = self._norm("feature_projection.layer_norm", self._convolutions(samples, sizes))
        x = self._linear("feature_projection.projection", x)
        mask = None
        if sizes is not None:
            frames = torch.tensor([self.config.frames(size) for size in sizes], device=x.device)
            mask = torch.arange(x.shape[1], device=x.device) < frames[:, None]
            x = x.masked_fill(~mask[..., None], 0)
            mask = mask[:, None, None]  # [rows, heads, queries, keys]
        x = x + self._positions(x)
        if not self.config.stable:
            x = self.normed(x)
        for layer in range(self._layers):
            x = self._layer(f"{LAYERS}{layer}.", x, mask)
            yield x

    def normed(self, x: Tensor) -> Tensor:
        """Apply the encoder's own norm to states [rows, frames, hidden]."""
        return self._norm("encoder.layer_norm", x)

    def _positions(self, x: Tensor) -> Tensor:
        """Embed positions [rows, frames, hidden]: by a grouped convolution over surroundings."""
        weight, bias = self._tensors[POSITIONS + ".weight"], self._tensors[POSITIONS + ".bias"]
        groups, kernel = self.config.position_groups, weight.shape[2]
        width = len(weight) // groups
        padded = F.pad(x.transpose(1, 2), (kernel // 2, kernel // 2 - (1 - kernel % 2)))
        made = []
        for group in range(groups):
            channels = slice(group * width, (group + 1) * width)
            views = padded[:, channels].unfold(2, kernel, 1)  # [rows, group, frames, kernel]
            views = views.transpose(1, 2).flatten(2)
            made.append(F.linear(views, weight[channels].flatten(1), bias[channels]))
        return F.gelu(torch.cat(made, 2))

    def _layer(self, name: str, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run one transformer layer over x [rows, frames, hidden]."""
        first, last = name + "layer_norm", name + "final_layer_norm"
        if self.config.stable:
            x = x + self._attention(name + "attention.", self._norm(first, x), mask)
            return x + self._forward(name + "feed_forward.", self._norm(last, x))
        x = self._norm(first, x + self._attention(name + "attention.", x, mask))
        return self._norm(last, x + self._forward(name + "feed_forward.", x))

    def _attention(self, name: str, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            self._linear(f"{name}{what}_proj", x)
            .view(*x.shape[:2], self.config.heads, -1)
            .transpose(1, 2)
            for what in "qkv"
        )  # [rows, heads, frames, channels]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._linear(name + "out_proj", y.transpose(1, 2).flatten(2))

    def _forward(self, name: str, x: Tensor) -> Tensor:
        y = F.gelu(self._linear(name + "intermediate_dense", x))
        return self._linear(name + "output_dense", y)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        with self._widening.wide(self._tensors[name + ".weight"]) as weight:
            return F.linear(x, weight, self._tensors[name + ".bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._tensors[name + ".weight"], self._tensors[name + ".bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.config.epsilon)
