"""The codec's two halves in training, made of upstream's own modules.

`Decoder`: codes and a voice -> samples. `FrontEnd`: samples -> codes, and characters for the
aligner, which is the lower half of the same trunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch.nn.utils import weight_norm
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from scripts.demo_voice import codes, styles
from worker.speech.codec.upstream import Upstream

LATENT, WIDTH = 128, 192
PRENET = {"vocos_dim": 160, "vocos_intermediate_dim": 480, "vocos_num_layers": 5}
WAVE = {"channels": 128, "rates": [8, 5, 4, 2], "kernel_sizes": [16, 11, 8, 4]}
ENCODER = {"vocos_dim": 96, "vocos_intermediate_dim": 256, "vocos_num_layers": 3}
QUANTIZER = {
    "input_dim": LATENT,
    "codebook_size": codes.CODES,
    "codebook_dim": codes.DIMENSIONS,
    "commitment": 0.25,
}
TRUNK, ALIGNER_LAYERS = 80, 8
FEATURE_LAYERS = (11, 14, 16)  # of which upstream takes the mean
LETTERS = "|abcdefghijklmnopqrstuvwxyz'"  # the aligner's, after the blank
LETTER_IDS = {"[PAD]": 0, **{letter: n for n, letter in enumerate(LETTERS, 1)}}


class _Snake(torch.autograd.Function):
    """x + sin(x)^2, at a third of the memory and time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x).square_().add_(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.sin(x + x).add_(1).mul_(gradient)


class FastSnake(nn.Module):
    """Upstream's Snake1d with the frequency that it starts with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, T] -> the same shape."""
        return _Snake.apply(x)  # type: ignore[no-any-return, no-untyped-call] # torch's


def with_fast_snakes(module: nn.Module) -> nn.Module:
    """The module, each Snake1d in it replaced."""
    for name, child in module.named_children():
        if type(child).__name__ == "Snake1d":
            setattr(module, name, FastSnake(child.alpha.shape[1]))
        else:
            with_fast_snakes(child)
    return module


class Decoder(nn.Module):
    """Codes [B, T] and voices [B] -> samples [B, T * FRAME]."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.quantizer = upstream.quantizer(**QUANTIZER)
        self.quantizer.codebook.weight.data.copy_(codes.codebook())
        self.quantizer.codebook.weight.requires_grad_(False)
        self.prenet = upstream.decoder(
            input_channels=LATENT,
            out_channels=WIDTH,
            condition_dim=WIDTH,
            sample_ratios=[],
            **PRENET,
        )
        self.decoder = with_fast_snakes(upstream.wave_generator(input_channel=WIDTH, **WAVE))
        voices = torch.randn(len(styles.GENDERS), WIDTH) * 0.02 + 1 / WIDTH
        self.voices = nn.Parameter(voices)

    def forward(self, units: Tensor, voices: Tensor) -> Tensor:
        """Samples."""
        voice = self.voices[voices]
        latent = self.quantizer.detokenize(units)
        hidden = self.prenet(latent, voice) + voice.unsqueeze(-1)
        return self.decoder(hidden)[:, 0]


def trunk_config(layers: int, vocabulary: int) -> Wav2Vec2Config:
    """A thin wav2vec 2.0 without dropout."""
    names = ("hidden", "activation", "attention", "feat_proj", "final")
    return Wav2Vec2Config(
        vocab_size=vocabulary,
        hidden_size=TRUNK,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * TRUNK,
        conv_dim=(64,) * 7,
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        conv_bias=True,
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=4,
        layerdrop=0.0,
        apply_spec_augment=False,
        pad_token_id=0,
        ctc_zero_infinity=True,
        attn_implementation="sdpa",
        **{f"{name}_dropout": 0.0 for name in names},
    )


class FrontEnd(nn.Module):
    """Normalised samples [B, N] -> logits of codes and of letters, each [B, T, n]."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.trunk = Wav2Vec2ForCTC(trunk_config(16, len(LETTER_IDS)))
        self.aligner_norm = nn.LayerNorm(TRUNK, eps=1e-5)
        self.encoder = upstream.encoder(
            input_channels=TRUNK, out_channels=LATENT, sample_ratios=[], **ENCODER
        )
        self.in_project = weight_norm(nn.Conv1d(LATENT, codes.DIMENSIONS, 1))
        self.sharpness = nn.Parameter(torch.tensor(12.0))
        self.register_buffer("codebook", F.normalize(codes.codebook(), dim=1), persistent=False)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines with the codebook, sharpened; and letters."""
        states = self.trunk.wav2vec2(samples, output_hidden_states=True).hidden_states
        features = sum(states[layer] for layer in FEATURE_LAYERS) / len(FEATURE_LAYERS)
        latent = self.in_project(self.encoder(features.transpose(1, 2)))
        cosines = F.normalize(latent.transpose(1, 2), dim=-1) @ self.codebook.T
        letters = self.trunk.lm_head(self.aligner_norm(states[ALIGNER_LAYERS]))
        return cosines * self.sharpness.abs(), letters
