"""A padded window is heard as by itself, whatever stands behind it and beside it."""

from __future__ import annotations

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from worker.timing.padding import frames_of, padded_forward

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 29,
}
# As the published models have it: facebook/wav2vec2-base-960h, and XLSR's, which Chinese has.
ENGLISH = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
CHINESE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SIZES = (400, 719, 8_000, 12_345, 16_000)


def random_model(**kind: object) -> Wav2Vec2ForCTC:
    """In float64, so that what is left of a difference is not rounding."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL, **kind)).double().eval()
    for name, weights in model.named_parameters():
        if "layer_norm" in name:  # they are ones and zeros at first
            torch.nn.init.normal_(weights, 1.0, 0.2)
    return model


@pytest.mark.parametrize("kind", [ENGLISH, CHINESE], ids=["english", "chinese"])
@torch.inference_mode()
def test_rows_of_many_lengths_are_heard_as_each_by_itself(kind: dict[str, object]) -> None:
    model = random_model(**kind)
    windows = [torch.randn(1, size, dtype=torch.float64) for size in SIZES]
    alone = [model(window).logits[0] for window in windows]
    forward = padded_forward(model)
    assert forward is not None
    rows = torch.randn(len(SIZES), 20_000, dtype=torch.float64)  # behind the windows, noise
    for row, window in zip(rows, windows, strict=True):
        row[: window.numel()] = window[0]
    together = forward(rows, SIZES)
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found[: len(expected)], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [ENGLISH, CHINESE], ids=["english", "chinese"])
@torch.inference_mode()
def test_the_model_itself_goes_on_as_it_was(kind: dict[str, object]) -> None:
    model = random_model(**kind)
    window = torch.randn(1, 8_000, dtype=torch.float64)
    before = model(window).logits
    forward = padded_forward(model)
    assert forward is not None
    forward(torch.randn(2, 16_000, dtype=torch.float64), [16_000, 500])
    assert torch.equal(model(window).logits, before)


@torch.inference_mode()
def test_without_the_norm_s_own_length_the_english_model_hears_otherwise() -> None:
    """Why transformers' own mask is not enough."""
    model = random_model(**ENGLISH)
    window = torch.randn(1, 8_000, dtype=torch.float64)
    padded = torch.nn.functional.pad(window, (0, 8_000))
    mask = (torch.arange(16_000) < 8_000).long()[None]
    expected = model(window).logits
    found = model(padded, attention_mask=mask).logits[:, : expected.shape[1]]
    assert (found - expected).abs().max() > 1e-3


def test_a_model_whose_mask_ends_before_its_last_layers_is_not_padded() -> None:
    assert padded_forward(random_model(add_adapter=True, **CHINESE)) is None


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 16_079, 16_080])
@torch.inference_mode()
def test_the_number_of_frames_is_the_model_s(samples: int) -> None:
    model = random_model(**CHINESE)
    frames = frames_of(samples, model.config.conv_kernel, model.config.conv_stride)
    assert model(torch.zeros(1, samples, dtype=torch.float64)).logits.shape[1] == frames
