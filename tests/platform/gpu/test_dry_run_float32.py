"""In float32 a dry GPU's speech and listening are the CPU's: graphs and streams lose nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.dry_gpu.engine import loaded, replays, unsynchronised
from tests.support.dry_gpu.streams import Gpu
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine

TEXTS = ["The boy walked to the river.", "It was cold."]
HOW = Sampling(max_tokens=14, min_tokens=8, seed=3)


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> Iterator[tuple[Gpu, Engine]]:
    """In float32, by torch's attention."""
    with loaded(checkpoint, "float32", flash=False) as found:
        yield found


def test_speech_in_float32_is_the_cpus(exact: tuple[Gpu, Engine], on_cpu: Engine) -> None:
    gpu, engine = exact
    voice = engine._prompter.some_voice()
    before = replays(gpu)
    mine, theirs = (list(one.speak(TEXTS, voice, HOW)) for one in (engine, on_cpu))
    assert replays(gpu) > before
    for a, b in zip(mine, theirs, strict=True):
        assert a.semantic_tokens == b.semantic_tokens
        np.testing.assert_allclose(a.samples, b.samples, atol=1e-4)


def test_listening_gives_the_cpus_tokens(
    exact: tuple[Gpu, Engine], on_cpu: Engine, tmp_path: Path
) -> None:
    gpu, engine = exact
    file = tmp_path / "noise.wav"
    soundfile.write(file, 0.1 * np.random.default_rng(1).standard_normal(16_000), 16_000)
    bicodec = engine._codec._bicodec
    with unsynchronised(gpu, bicodec.encoder, bicodec.mel_transformer):
        heard = engine.listen(file)
    assert heard == on_cpu.listen(file)
