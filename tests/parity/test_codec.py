"""Our codec against upstream's BiCodecTokenizer, on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from spark_tts_lib.models.audio_tokenizer import BiCodecTokenizer

from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.codec import Codec
from worker.speech.codec.upstream import find_upstream

CPU = torch.device("cpu")
WAVEFORM_TOLERANCE = 1e-6  # of full scale; greatest seen: 2.4e-7


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> Codec:
    return Codec.load(Checkpoint(checkpoint), find_upstream(), CPU)


@pytest.fixture(scope="module")
def theirs(checkpoint: Path) -> BiCodecTokenizer:
    return BiCodecTokenizer(checkpoint, device=CPU)


def reference(path: Path, seconds: float, rate: int, channels: int) -> Path:
    """A voiced sound whose pitch glides, in noise: enough for any token to occur."""
    rng = np.random.default_rng(round(seconds * rate))
    t = np.arange(int(seconds * rate)) / rate
    f0 = 120 + 60 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(f0) / rate
    wav = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.5 + 0.5 * np.sin(5 * t)) * 0.2
    wav = wav[:, None] + 0.02 * rng.standard_normal((len(t), channels))
    soundfile.write(path, wav, rate)
    return path


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"), [(1.0, 16000, 1), (2.5, 44100, 2), (7.3, 24000, 1)]
)
def test_audio_gives_upstreams_tokens(
    ours: Codec, theirs: BiCodecTokenizer, tmp_path: Path, seconds: float, rate: int, channels: int
) -> None:
    path = reference(tmp_path / "reference.wav", seconds, rate, channels)
    expected_global, expected_semantic = theirs.tokenize(path)
    global_tokens, semantic_tokens = ours.tokenize(path)
    assert global_tokens == tuple(expected_global.flatten().tolist())
    assert semantic_tokens == tuple(expected_semantic.flatten().tolist())
    assert len(set(semantic_tokens)) > 3
    print(f"{len(semantic_tokens)} semantic tokens equal, {len(set(semantic_tokens))} different")


@pytest.mark.parametrize("length", [1, 7, 60, 151])
def test_tokens_give_upstreams_waveform(ours: Codec, theirs: BiCodecTokenizer, length: int) -> None:
    rng = np.random.default_rng(length)
    voice = rng.integers(0, ours.sizes.global_codes, ours.sizes.voice_length)
    codes = rng.integers(0, ours.sizes.semantic_codes, length)
    expected = theirs.detokenize(torch.tensor(voice)[None], torch.tensor(codes)[None])
    samples = ours.decode(tuple(voice.tolist()), tuple(codes.tolist()))
    assert samples.shape == (length * ours.audio.hop,)
    assert np.abs(samples).max() > 1e-4
    assert np.abs(samples - expected).max() <= WAVEFORM_TOLERANCE
    print(f"greatest waveform difference {np.abs(samples - expected).max():.2e}")
