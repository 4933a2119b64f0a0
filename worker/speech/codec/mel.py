"""The mel spectrogram that upstream takes from torchaudio, equal to that one to the last bit.

Slaney's mel scale and area-normalised triangles, as in his Auditory Toolbox (1998): linear below
1,000 Hz at three mels for 200 Hz, above it logarithmic, 27 mels for a factor of 6.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_HZ_PER_MEL = 200.0 / 3  # in the linear part
_KNEE_HZ = 1000.0
_KNEE = _KNEE_HZ / _HZ_PER_MEL  # the same in mels
_LOG_STEP = math.log(6.4) / 27  # of the logarithm of a frequency, for each mel above


class MelSpectrogram(nn.Module):
    """Magnitudes of audio in mel bands; the arguments that upstream gives, no others."""

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        win_length: int,
        hop_length: int,
        f_min: float,
        f_max: float | None,
        *,
        n_mels: int,
        power: int,
        norm: str,
        mel_scale: str,
    ) -> None:
        """Frequencies in Hz, lengths in samples. Raises ValueError for another kind of spectrum."""
        if (power, norm, mel_scale) != (1, "slaney", "slaney"):
            raise ValueError(f"no such spectrogram: {power=}, {norm=}, {mel_scale=}")
        super().__init__()
        highest = float(sample_rate // 2) if f_max is None else f_max
        self.spectrogram = _Spectrogram(n_fft, win_length, hop_length)
        frequencies = torch.linspace(0, sample_rate // 2, n_fft // 2 + 1)
        self.mel_scale = _MelScale(_triangles(frequencies, _edges(f_min, highest, n_mels)))

    def forward(self, samples: Tensor) -> Tensor:
        """Turn samples [..., n] into [..., bands, frames]."""
        bands: Tensor = self.mel_scale(self.spectrogram(samples))
        return bands


class _Spectrogram(nn.Module):
    """Magnitudes of the short-time Fourier transform."""

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        self._sizes = n_fft, hop_length, win_length
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, samples: Tensor) -> Tensor:
        """Turn samples [..., n] into [..., frequencies, frames]."""
        spectrum = torch.stft(
            samples.reshape(-1, samples.shape[-1]),
            *self._sizes,
            window=self.get_buffer("window"),
            return_complex=True,
        )
        return spectrum.reshape(*samples.shape[:-1], *spectrum.shape[1:]).abs()


class _MelScale(nn.Module):
    """Frequencies added up to bands."""

    def __init__(self, bands: Tensor) -> None:
        super().__init__()
        self.register_buffer("fb", bands)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Turn [..., frequencies, frames] into [..., bands, frames]."""
        bands: Tensor = magnitudes.transpose(-1, -2) @ self.get_buffer("fb")
        return bands.transpose(-1, -2)


def _edges(lowest: float, highest: float, bands: int) -> Tensor:
    """The frequencies in Hz, evenly spaced in mels, between which the bands lie: [bands + 2]."""
    mels = torch.linspace(_mels(lowest), _mels(highest), bands + 2)
    logarithmic = _KNEE_HZ * torch.exp(_LOG_STEP * (mels - _KNEE))
    return torch.where(mels >= _KNEE, logarithmic, _HZ_PER_MEL * mels)


def _mels(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return _KNEE + math.log(hertz / _KNEE_HZ) / _LOG_STEP


def _triangles(frequencies: Tensor, edges: Tensor) -> Tensor:
    """How much of each frequency is in each band: [frequencies, bands], each of area one."""
    widths = edges[1:] - edges[:-1]
    distances = edges - frequencies[:, None]
    rising = -distances[:, :-2] / widths[:-1]
    falling = distances[:, 2:] / widths[1:]
    heights = 2 / (edges[2:] - edges[:-2])
    bands: Tensor = torch.minimum(rising, falling).clamp(min=0) * heights
    return bands
