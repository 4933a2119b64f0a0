"""The mel spectrogram is torchaudio's, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchaudio.transforms import MelSpectrogram as Theirs

from worker.speech.codec.mel import MelSpectrogram

PUBLISHED = (16_000, 1024, 640, 320, 10, None)
KIND: dict[str, Any] = {"power": 1, "norm": "slaney", "mel_scale": "slaney"}


@pytest.mark.parametrize(
    ("sizes", "bands"),
    [
        (PUBLISHED, 128),
        ((16_000, 512, 400, 160, 0, 8_000.0), 80),
        ((24_000, 400, 400, 100, 60, 7_600), 17),
        ((8_000, 256, 256, 64, 1_000, 4_000), 6),  # all of it above the knee
        ((2_000, 128, 128, 32, 0, 900.0), 5),  # and below
    ],
)
def test_it_is_torchaudio_s_to_the_last_bit(sizes: tuple[Any, ...], bands: int) -> None:
    ours, theirs = (made(*sizes, n_mels=bands, **KIND) for made in (MelSpectrogram, Theirs))
    state, expected = ours.state_dict(), theirs.state_dict()
    assert state.keys() == expected.keys() == {"spectrogram.window", "mel_scale.fb"}
    for name in state:
        assert torch.equal(state[name], expected[name]), name
    generator = torch.Generator().manual_seed(1)
    for shape in [(1, 96_000), (2, 3, 5_001), (1_500,)]:
        samples = torch.randn(shape, generator=generator)
        assert torch.equal(ours(samples), theirs(samples))


@pytest.mark.parametrize("other", [{"power": 2}, {"norm": None}, {"mel_scale": "htk"}])
def test_another_spectrogram_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such spectrogram"):
        MelSpectrogram(*PUBLISHED, n_mels=128, **(KIND | other))
