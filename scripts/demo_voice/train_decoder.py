"""Trains the codec's decoder: true codes and a voice -> the waveform that WORLD made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor

from scripts.demo_voice import data, styles
from scripts.demo_voice.codec import Decoder
from scripts.demo_voice.codes import FRAME, FRAME_SECONDS
from scripts.demo_voice.training import DEVICE, Training, on_device
from worker.speech.codec.upstream import find_upstream

SEGMENT, ROWS = 40, 12  # frames of a segment, segments of a step
WINDOWS = {1024: 80, 512: 64, 256: 32}  # and their mel bands
PHASED = 3500.0  # hertz up to which the phase counts too
SHARDS_AT_ONCE = 8


def train(root: Path, seconds: float, start: dict[str, Tensor] | None = None) -> None:
    """Until so much audio was seen; from the state on disk, else from the weights `start`."""
    torch.manual_seed(0)
    model = Decoder(find_upstream())
    if start is not None:
        model.load_state_dict(start)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1.5e-3, betas=(0.8, 0.98), weight_decay=0.01)
    training = Training("decoder", root / "decoder.pt", model, [optimizer], seconds)
    generator = np.random.default_rng(training.steps)
    spectra = Spectra()
    losses: list[list[float]] = []
    while not training.over:
        units, voices, samples = _gathered(root / "sounds", generator)
        for _ in range(400):
            starts = generator.integers(0, len(units) - SEGMENT, ROWS)
            rows = starts[:, None] + np.arange(SEGMENT)
            voice = voices[rows[:, SEGMENT // 2]]
            wave = samples.reshape(-1, FRAME)[rows].reshape(ROWS, -1).astype(np.float32) / 32767
            said = model(on_device(units[rows]), on_device(voice))
            magnitude, phase = spectra.distance(said, on_device(wave))
            losses.append([float(magnitude.detach()), float(phase.detach())])
            means = np.mean(losses[-100:], 0)
            note = f"magnitude {means[0]:.3f}, phase {means[1]:.3f}"
            amount = ROWS * SEGMENT * FRAME_SECONDS
            training.update(magnitude + 0.7 * phase, amount, note, clip=5.0)
            if training.over:
                return


def _gathered(
    folder: Path, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some shards end to end: codes and voices [frames], samples [frames * FRAME]."""
    shards = sorted(folder.glob("*.npz"))[data.HELD_OUT + 1 :]
    some = generator.permutation(len(shards))[:SHARDS_AT_ONCE]
    sounds = [sound for at in some for sound in data.sounds(shards[at])]
    voices = [np.full(len(s.codes), styles.GENDERS.index(s.gender)) for s in sounds]
    units = np.concatenate([s.codes for s in sounds])
    return units, np.concatenate(voices), np.concatenate([s.samples for s in sounds])


class Spectra:
    """Distances between waveforms: magnitudes at several resolutions; phase at low frequencies."""

    def __init__(self) -> None:
        self._windows = {n: torch.hann_window(n, device=DEVICE) for n in WINDOWS}
        self._bands = {
            n: torchaudio.functional.melscale_fbanks(
                n // 2 + 1, 0.0, 8000.0, bands, 16000, norm="slaney", mel_scale="slaney"
            ).T.to(DEVICE)
            for n, bands in WINDOWS.items()
        }

    def distance(self, said: Tensor, meant: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitude and phase, of waveforms [B, N]."""
        magnitude = phase = torch.zeros((), device=said.device)
        for n, bands in self._bands.items():
            window = self._windows[n]
            a, b = (torch.stft(x, n, n // 4, n, window, return_complex=True) for x in (said, meant))
            x, y = _absolute(a), _absolute(b)
            magnitude = magnitude + 0.5 * ((x + 1e-3).log() - (y + 1e-3).log()).abs().mean()
            magnitude = magnitude + 0.5 * (x - y).abs().mean() / y.mean()
            mel = ((bands @ x + 1e-4).log() - (bands @ y + 1e-4).log()).abs().mean()
            magnitude = magnitude + mel
            if n > 256:
                low = int(n * PHASED / 16000)
                phase = phase + _absolute(a[:, :low] - b[:, :low]).mean() / y[:, :low].mean()
        return magnitude, phase


def _absolute(x: Tensor) -> Tensor:
    """Whose gradient at 0 is finite."""
    return (x.real.square() + x.imag.square() + 1e-7).sqrt()
