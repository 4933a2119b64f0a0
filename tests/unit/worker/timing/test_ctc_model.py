"""What an alignment model is given, and what is taken from its folder."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.dry_gpu import dry_gpu
from tests.support.tiny_wav2vec2 import save_aligner
from worker.errors import SetupError
from worker.speech.device import Lane
from worker.timing.ctc_model import CtcModel, load_model


def heard_of(window: np.ndarray, *, normalise: bool) -> torch.Tensor:
    """Samples [1, n] that a model gets of a window."""
    got: list[torch.Tensor] = []

    def forward(samples: torch.Tensor) -> torch.Tensor:
        got.append(samples)
        return torch.zeros(1, 3, 2, dtype=torch.float64)

    model = CtcModel("en", forward, {"<pad>": 0, "a": 1}, normalise=normalise, device="cpu")
    logits = model.logits(window.astype(np.float32))
    assert logits.shape == (1, 3, 2)
    assert logits.dtype == torch.float32
    (samples,) = got
    return samples


@pytest.mark.parametrize(("samples", "given"), [(0, 400), (1, 400), (399, 400), (400, 400)])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_window_too_short_for_a_frame_is_filled_with_silence(
    samples: int, given: int, normalise: bool
) -> None:
    heard = heard_of(np.full(samples, 0.5), normalise=normalise)
    assert heard.shape == (1, given)
    assert not heard[0, samples:].any()
    assert torch.isfinite(heard).all()


@pytest.mark.parametrize("samples", [401, 16_000])
def test_a_longer_window_is_given_as_it_is(samples: int) -> None:
    window = np.sin(np.arange(samples)).astype(np.float32)
    assert torch.equal(heard_of(window, normalise=False), torch.from_numpy(window)[None])


def test_normalised_samples_have_mean_0_and_variance_1() -> None:
    # 1000 times 0.1 and 3000 times 0.5: mean 0.4, variance (0.3**2 + 3 * 0.1**2) / 4 = 0.03.
    window = np.array([0.1, 0.5, 0.5, 0.5] * 1_000)
    heard = heard_of(window, normalise=True)
    root = 0.03**0.5
    assert heard[0, 0].item() == pytest.approx(-0.3 / root, rel=1e-4)
    assert heard[0, 1].item() == pytest.approx(0.1 / root, rel=1e-4)


def test_silence_is_normalised_to_silence() -> None:
    assert not heard_of(np.zeros(16_000), normalise=True).any()


def test_a_vocabulary_is_read_in_lower_case(demo_checkpoint: Path) -> None:
    folder = demo_checkpoint / "aligner"
    written = json.loads((folder / "vocab.json").read_text())
    model = load_model("en", folder, "cpu")
    assert model.alphabet == {token.lower(): index for token, index in written.items()}
    assert model.language == "en"


def test_marks_that_the_model_does_not_score_are_not_of_the_alphabet(tmp_path: Path) -> None:
    folder = save_aligner(tmp_path, "english", ("A", "B"))
    assert load_model("en", folder, "cpu").alphabet == {"<pad>": 0, "a": 1, "b": 2}
    (folder / "vocab.json").write_text('{"<pad>": 0, "A": 1, "B": 2, "</s>": 3}')
    assert load_model("en", folder, "cpu").alphabet == {"<pad>": 0, "a": 1, "b": 2}


def test_samples_are_normalised_where_the_folder_does_not_say(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    for file in (demo_checkpoint / "aligner").iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink(missing_ok=True)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    model = load_model("en", tmp_path, "cpu")
    window = np.sin(np.arange(8_000) / 9).astype(np.float32)
    louder = model.logits(0.25 * window)
    assert torch.allclose(model.logits(window), louder, atol=1e-2)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_language_of_a_folder_that_is_not_complete_is_told(
    tmp_path: Path, language: str
) -> None:
    with pytest.raises(SetupError, match=f"'{language}' is not complete.*volume install"):
        load_model(language, tmp_path, "cpu")


def test_a_model_gives_the_same_for_the_same_window(demo_checkpoint: Path) -> None:
    model = load_model("en", demo_checkpoint / "aligner", "cpu")
    window = np.sin(np.arange(8_000) / 9).astype(np.float32)
    first = model.logits(window)
    assert torch.equal(first, model.logits(window))  # as no dropout would have it
    assert not first.requires_grad


def test_the_weights_are_those_that_transformers_loads(demo_checkpoint: Path) -> None:
    from transformers import Wav2Vec2ForCTC

    folder = demo_checkpoint / "aligner"
    window = np.sin(np.arange(16_000) / 9).astype(np.float32)
    theirs = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    with torch.inference_mode():
        expected = theirs.eval()(torch.from_numpy(window)[None]).logits
    model = load_model("en", folder, "cpu")
    model._normalise = False
    torch.testing.assert_close(model.logits(window), expected, rtol=1e-5, atol=1e-4)


# On a GPU


def test_a_models_work_is_done_on_its_lane() -> None:
    """cuDNN plans for each thread and length anew, so the threads of jobs may not run it."""
    threads: list[str] = []

    def forward(samples: torch.Tensor) -> torch.Tensor:
        threads.append(threading.current_thread().name)
        return torch.zeros(1, 3, 2)

    lane = Lane(torch.device("cpu"), "lane")
    model = CtcModel("en", forward, {"a": 0}, normalise=True, device="cpu", lane=lane)
    model.logits(np.zeros(400, np.float32))
    with ThreadPoolExecutor(1, "job") as job:
        job.submit(model.logits, np.zeros(400, np.float32)).result()
    assert len(set(threads)) == 1
    assert threads[0].startswith("lane")


def test_a_loaded_model_has_a_lane_on_a_gpu_alone(demo_checkpoint: Path) -> None:
    opened: list[tuple[torch.device, str]] = []

    def open_lane(device: torch.device, name: str) -> Lane:
        opened.append((device, name))
        return Lane(device, name)

    folder = demo_checkpoint / "aligner"
    window = np.random.default_rng(4).normal(0, 0.1, 4_000).astype(np.float32)
    expected = load_model("en", folder, "cpu", open_lane).logits(window)
    assert opened == []
    with dry_gpu():
        logits = load_model("en", folder, "cuda", open_lane).logits(window)
    assert opened == [(torch.device("cuda"), "aligner-en")]
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)  # filled, and so rounded
