"""Our wav2vec 2.0 against transformers', on tiny models of each form that is published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2ForCTC

from tests.support.tiny_wav2vec2 import FORMS, tiny_model
from worker.wav2vec2 import convolutions as convolutions_module
from worker.wav2vec2.convolutions import CHUNK, Convolutions
from worker.wav2vec2.loading import load_wav2vec2
from worker.wav2vec2.network import Wav2Vec2

CPU = torch.device("cpu")
HOP, FIELD = 320, 400  # samples from one frame to the next, and that one frame is made from
SIZES = (400, 719, 8_000, 12_345, 16_000)
EXACT = {"rtol": 0, "atol": 1e-10}  # in float64, so that what is left is no rounding


@pytest.fixture(scope="module", params=list(FORMS))
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Wav2Vec2, Wav2Vec2ForCTC]]:
    """Ours and theirs, of the same weights; in float64."""
    theirs = tiny_model(request.param)
    theirs.save_pretrained(folder := tmp_path_factory.mktemp("tiny"))
    ours = in_float64(load_wav2vec2(folder, CPU, head=True))
    with torch.inference_mode():
        yield ours, theirs.double()


def in_float64(network: Wav2Vec2) -> Wav2Vec2:
    tensors = {name: tensor.double() for name, tensor in network._tensors.items()}
    return Wav2Vec2(network.config, tensors, network._layers)


def sound(count: int) -> Tensor:
    """Samples [1, count], not of mean 0 nor of variance 1."""
    generator = torch.Generator().manual_seed(count)
    return 0.1 + 0.3 * torch.randn(1, count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_logits_and_states_are_transformers(
    both: tuple[Wav2Vec2, Wav2Vec2ForCTC], size: int
) -> None:
    ours, theirs = both
    found = theirs(sound(size), output_hidden_states=True)
    logits = ours.logits(sound(size))
    assert logits.shape == (1, ours.config.frames(size), 29)
    # Ours folds weight norm in float32, as torch does where the model computes in it.
    torch.testing.assert_close(logits, found.logits, rtol=1e-5, atol=1e-5)
    states = list(ours.states(sound(size)))
    if ours.config.stable:
        states[-1] = ours.normed(states[-1])
    for state, expected in zip(states, found.hidden_states[1:], strict=True):
        torch.testing.assert_close(state, expected, rtol=1e-5, atol=1e-5)


def test_float32_is_transformers_to_its_rounding(tmp_path: Path) -> None:
    for form in FORMS:
        theirs = tiny_model(form)
        theirs.save_pretrained(tmp_path / form)
        ours = load_wav2vec2(tmp_path / form, CPU, head=True)
        samples = sound(9_000).float()
        with torch.inference_mode():
            expected = theirs(samples).logits
            difference = (ours.logits(samples) - expected).abs().max() / expected.abs().max()
        assert difference < 1e-5


def test_rows_of_many_lengths_are_heard_as_each_by_itself(
    both: tuple[Wav2Vec2, Wav2Vec2ForCTC],
) -> None:
    ours, _ = both
    windows = [sound(size) for size in SIZES]
    alone = [ours.logits(window)[0] for window in windows]
    rows = torch.randn(len(SIZES), 20_000, dtype=torch.float64)  # behind the windows, noise
    for row, window in zip(rows, windows, strict=True):
        row[: window.numel()] = window[0]
    before = rows.clone()
    together = ours.logits(rows, SIZES)
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found[: len(expected)], expected, **EXACT)
    assert torch.equal(rows, before)
    again = ours.logits(windows[2])[0]  # a batch leaves nothing behind
    assert torch.equal(again, alone[2])


def test_a_batch_of_whole_rows_needs_no_sizes(both: tuple[Wav2Vec2, Wav2Vec2ForCTC]) -> None:
    ours, theirs = both
    rows = torch.cat([sound(8_000), sound(8_000).flip(1), sound(8_000) * 2])
    expected = theirs(rows).logits
    torch.testing.assert_close(ours.logits(rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("frames", "more"), [(1, 0), (6, 319), (7, 0), (8, 0), (14, 5), (15, 0)])
@pytest.mark.parametrize("rows", [1, 2])
def test_frames_made_some_at_a_time_are_the_same(
    both: tuple[Wav2Vec2, Wav2Vec2ForCTC],
    monkeypatch: pytest.MonkeyPatch,
    frames: int,
    more: int,
    rows: int,
) -> None:
    """Below, at and above a whole number of chunks, and with samples that make no frame."""
    ours, samples = both[0], sound((frames - 1) * HOP + FIELD + more).expand(rows, -1)
    at_once = ours.logits(samples)
    assert frames < CHUNK
    assert at_once.shape == (rows, frames, 29)
    monkeypatch.setattr(convolutions_module, "CHUNK", 7)
    torch.testing.assert_close(ours.logits(samples), at_once, **EXACT)


def test_convolutions_make_a_bounded_number_of_frames_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model("chinese").save_pretrained(tmp_path)
    network, made = load_wav2vec2(tmp_path, CPU), []
    convolve = Convolutions._convolve

    def watched(self: Convolutions, samples: Tensor) -> Tensor:
        found = convolve(self, samples)
        made.append(found.shape[1])
        return found

    monkeypatch.setattr(Convolutions, "_convolve", watched)
    list(network.states(sound(2 * CHUNK * HOP + FIELD).float()))
    assert made == [CHUNK, CHUNK, 1]


def test_silence_gives_numbers(both: tuple[Wav2Vec2, Wav2Vec2ForCTC]) -> None:
    ours, _ = both
    assert ours.logits(torch.zeros(2, 8_000, dtype=torch.float64), [8_000, 400]).isfinite().all()


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 16_079, 16_080])
def test_the_number_of_frames_is_the_model_s(
    both: tuple[Wav2Vec2, Wav2Vec2ForCTC], samples: int
) -> None:
    ours, theirs = both
    frames = theirs(torch.zeros(1, samples, dtype=torch.float64)).logits.shape[1]
    assert ours.config.frames(samples) == frames


def test_samples_below_the_first_frame_make_none(both: tuple[Wav2Vec2, Wav2Vec2ForCTC]) -> None:
    config = both[0].config
    assert [config.frames(n) for n in (0, 5, 399, 400)] == [0, 0, 0, 1]
    assert (config.receptive_field, config.hop) == (FIELD, HOP)
