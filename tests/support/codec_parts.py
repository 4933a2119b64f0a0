"""A small BiCodec in which everything counts: weights, biases and snakes are random."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tests.support.random_checkpoint import TINY_CODEC
from worker.speech.codec.chunked_network import context_of
from worker.speech.codec.codec_batch import CodecBatch, open_batch
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.weight_norm import built_folded

CODES, VOICE_CODES, VOICE_LENGTH, HOP = 96, 16, 5, 320
MEL = {
    "sample_rate": 16000, "n_fft": 1024, "win_length": 640, "hop_length": 320, "mel_fmin": 10,
    "mel_fmax": None, "num_mels": 128,
}  # fmt: skip


def random_bicodec(seed: int = 0) -> Any:
    """Upstream's modules in float32: the same ones for a seed. What listens is left out."""
    torch.manual_seed(seed)
    upstream, parts = find_upstream(), TINY_CODEC
    with built_folded(upstream.package):
        made = upstream.bicodec(
            mel_params=MEL,
            encoder=nn.Identity(),
            decoder=upstream.wave_generator(**parts["decoder"]),
            quantizer=upstream.quantizer(**parts["quantizer"]),
            speaker_encoder=upstream.speaker_encoder(**parts["speaker_encoder"]),
            prenet=upstream.decoder(**parts["prenet"]),
            postnet=nn.Identity(),
        )
    for part in made.prenet.modules():
        if isinstance(part, nn.Conv1d | nn.Linear):
            nn.init.normal_(part.bias, std=0.3)
    for part in made.decoder.modules():
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.normal_(part.weight, std=0.5 / part.weight[0].numel() ** 0.5)
            nn.init.normal_(part.bias, std=0.1)
        if hasattr(part, "alpha"):
            nn.init.uniform_(part.alpha, 0.5, 1.5)
    return made.eval().requires_grad_(requires_grad=False)


def random_batch(bicodec: Any) -> CodecBatch:
    """The batch over a BiCodec, in float32."""
    return open_batch(bicodec, torch.float32, VOICE_LENGTH, context_of(bicodec.decoder))


def random_tokens(count: int, seed: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A voice and so many semantic tokens."""
    rng = np.random.default_rng([count, seed])
    voice = rng.integers(0, VOICE_CODES, VOICE_LENGTH)
    return tuple(voice.tolist()), tuple(rng.integers(0, CODES, count).tolist())


@torch.inference_mode()
def whole(bicodec: Any, voice: tuple[int, ...], codes: tuple[int, ...]) -> np.ndarray:
    """Upstream's own way, on all tokens at once: the samples."""
    with torch.backends.mkldnn.flags(enabled=False):
        wav = bicodec.detokenize(torch.tensor([codes]), torch.tensor([[voice]]))
    return wav.flatten().numpy()
