"""The codec in windows gives what it gives at once, however its tokens arrive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worker.errors import SynthesisError
from worker.speech.batch.sampling import Sampling
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec.chunked_network import context_of
from worker.speech.codec.codec import Codec
from worker.speech.codec.eager_stream import FIRST_STEP
from worker.speech.codec.speech_stream import PRENET_LENGTH
from worker.speech.codec.upstream import find_upstream
from worker.speech.engine import Engine
from worker.speech.voice import Style

TOLERANCE = 1e-4  # of full scale
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["demo", "tiny"])
def codec(request: pytest.FixtureRequest) -> Codec:
    folder = request.getfixturevalue(f"{request.param}_checkpoint")
    return Codec.load(Checkpoint(folder), find_upstream(), torch.device("cpu"))


def tokens(codec: Codec, length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rng = np.random.default_rng(length)
    sizes = codec.sizes
    voice = rng.integers(0, sizes.global_codes, sizes.voice_length)
    return tuple(voice.tolist()), tuple(rng.integers(0, sizes.semantic_codes, length).tolist())


def whole(codec: Codec, voice: tuple[int, ...], codes: tuple[int, ...]) -> np.ndarray:
    """Upstream's modules on all tokens at once."""
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        wav = codec._bicodec.detokenize(torch.tensor([codes]), torch.tensor([[voice]]))
    return wav.flatten().numpy()


@pytest.mark.parametrize("length", [1, 30, 257, PRENET_LENGTH + 1])
def test_windows_give_the_whole(codec: Codec, length: int) -> None:
    voice, codes = tokens(codec, length)
    samples = codec.decode(voice, codes)
    assert samples.shape == (length * codec.audio.hop,)
    assert np.abs(samples - whole(codec, voice, codes)).max() < TOLERANCE


@pytest.mark.parametrize("piece", [1, 7, 300])
@pytest.mark.parametrize("length", [1, 90, 400])
def test_a_stream_that_looks_as_far_as_the_reach_gives_the_whole(
    codec: Codec, length: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "look_ahead", codec.reach)
    voice, codes = tokens(codec, length)
    stream = codec.stream(voice)
    parts = [stream.feed(codes[i : i + piece]) for i in range(0, length, piece)] + [
        stream.feed((), last=True)
    ]
    samples = np.concatenate(parts)
    assert samples.shape == (length * codec.audio.hop,)
    assert np.abs(samples - whole(codec, voice, codes)).max() < TOLERANCE


def test_the_first_samples_come_after_the_look_ahead(codec: Codec) -> None:
    voice, codes = tokens(codec, codec.look_ahead + FIRST_STEP)
    stream = codec.stream(voice)
    assert not any(stream.feed([code]).size for code in codes[:-1])
    assert stream.feed(codes[-1:]).size >= FIRST_STEP * codec.audio.hop


def test_a_stream_that_looks_less_far_is_near_the_whole(
    demo_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trained weights and speech; `python -m bench.look_ahead` measures by how much."""
    codec = demo_engine._codec
    voice = demo_engine.design(Style(), "Hello.", Sampling(seed=1)).voice
    (said,) = demo_engine.speak(["The boy walked to the river."], voice, Sampling(seed=1))
    exact = codec.decode(voice.global_tokens, said.semantic_tokens)
    ratios = []
    for look_ahead in (0, 4, codec.look_ahead):
        monkeypatch.setattr(codec, "look_ahead", look_ahead)
        made = codec.decode(voice.global_tokens, said.semantic_tokens, eager=True)
        noise = np.square(made - exact).sum()
        ratios.append(10 * np.log10(np.square(exact).sum() / noise))
    assert ratios == sorted(ratios)
    assert ratios[0] < 25
    assert ratios[-1] > 40


def test_the_context_is_what_an_output_depends_on(codec: Codec) -> None:
    """Never less, and at most one position more, since a transposed reach is rounded up."""
    network, hop = codec._bicodec.decoder, codec.audio.hop
    context = context_of(network)
    at = context + 2
    x = torch.randn(1, network.model[0].in_channels, 2 * at + 1, requires_grad=True)
    network(x)[..., at * hop : (at + 1) * hop].sum().backward()
    assert x.grad is not None
    places = x.grad[0].any(0).nonzero().flatten()
    assert context - 1 <= int((places - at).abs().max()) <= context


def test_a_token_of_another_codec_is_refused(codec: Codec) -> None:
    voice, _ = tokens(codec, 1)
    stream = codec.stream(voice)
    with pytest.raises(SynthesisError):
        stream.feed([codec.sizes.semantic_codes])
    with pytest.raises(SynthesisError):
        codec.stream((*voice, 0))


@pytest.mark.slow("starts a process")
def test_the_codec_is_loaded_without_transformers(demo_checkpoint: Path) -> None:
    script = (
        "import sys; from pathlib import Path; import torch;"
        "from worker.speech.codec.codec import Codec;"
        "from worker.speech.checkpoint import Checkpoint;"
        "from worker.speech.codec.upstream import find_upstream;"
        f"Codec.load(Checkpoint(Path({str(demo_checkpoint)!r})), find_upstream(), "
        "torch.device('cpu'));"
        "unwanted = 'transformers', 'einx', 'torch._dynamo', 'torchaudio', 'omegaconf';"
        "print([name for name in unwanted if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow("compiles C")
def test_bfloat16_is_close_to_float32(demo_checkpoint: Path) -> None:
    """On trained weights; equal where the machine has no bfloat16.

    The tiny random checkpoint, whose last layers have a few channels, gives 28.5 dB.
    """
    half = Codec.load(Checkpoint(demo_checkpoint), find_upstream(), CPU, torch.bfloat16)
    same = Codec.load(Checkpoint(demo_checkpoint), find_upstream(), CPU)
    voice, codes = tokens(half, 300)
    expected = same.decode(voice, codes)
    noise = half.decode(voice, codes) - expected
    ratio = 10 * np.log10(np.square(expected).sum() / max(np.square(noise).sum(), 1e-20))
    print(f"signal to noise {ratio:.1f} dB")
    assert ratio > 40
