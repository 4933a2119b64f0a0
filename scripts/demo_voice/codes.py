"""The tokens, designed and not learned: a phoneme symbol and a pitch for each 20 ms.

Voiced pitches are whole or half periods a frame, so that a frame's waveform is nearly a function of
its code: a half period alternates between two codes, whose pulses lie apart by half a period. The
codebook holds fixed vectors, in which codes of one symbol, or of one pitch, are near each other; so
decoder, front end and language model can be trained apart, side by side.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 - the field's name for it

Ints = npt.NDArray[np.int64]

SAMPLE_RATE = 16000
FRAME = 320  # samples
FRAME_SECONDS = FRAME / SAMPLE_RATE

# The teacher's phoneme ids (hibari/assets/vocab.json): a pad, marks, the space, sounds, stresses.
SYMBOLS = (
    *(0, 3, 4, 6, 16, 24, 25, 31, 36, 39, 41, 42, 44, 46, 48, 50, 51, 52, 53, 54, 55, 56, 58, 61),
    *(62, 63, 64, 65, 68, 69, 70, 72, 76, 81, 82, 83, 86, 87, 92, 102, 112, 119, 123, 131, 133),
    *(135, 138, 147, 156, 157, 177, 125, 148, 35, 85, 17, 57, 43, 47, 66),
)
# What the teacher's alphabet has and the codes do without: other marks are pauses too.
SAME = {1: 3, 2: 3, 5: 4, 9: 3, 10: 4, 11: 16, 12: 16, 13: 16, 14: 16, 15: 16, 158: 83}
PAUSES = frozenset({0, 3, 4, 6, 16})

# Pitch 0 is unvoiced; then twice the periods in a frame, and the half of a pair of frames.
PITCHES = ((0, 0), (6, 0), (8, 0), (10, 0), (12, 0), (4, 0), (5, 0), (5, 1), (7, 0), (7, 1))
PITCHES += ((14, 0), (16, 0))
HOLD = 0.05  # how much nearer, in log frequency, another step must be
STEPS = (4, 5, 6, 7, 8, 10, 12, 14, 16)  # twice the periods: 100 to 400 Hz
CODES = len(SYMBOLS) * len(PITCHES)
SILENT = frozenset(
    SYMBOLS.index(symbol) * len(PITCHES) + pitch
    for symbol in PAUSES
    for pitch in range(len(PITCHES))
)

SYMBOL_DIMENSIONS, PITCH_DIMENSIONS = 20, 10
DIMENSIONS = SYMBOL_DIMENSIONS + PITCH_DIMENSIONS


def hertz(steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The frequency of so many half periods in a frame."""
    return np.asarray(steps, np.float64) / 2 / FRAME_SECONDS


def code(symbols: Ints, pitches: Ints) -> Ints:
    """Codes of symbol indices and pitch indices, each [frames]."""
    return symbols * len(PITCHES) + pitches


def parts(codes: Ints) -> tuple[Ints, Ints]:
    """Symbol indices and pitch indices of codes."""
    return codes // len(PITCHES), codes % len(PITCHES)


@cache
def _index() -> Ints:
    """Teacher's id -> symbol index; what is unknown is the weakest of the sounds."""
    table = np.full(256, SYMBOLS.index(83), np.int64)
    for index, symbol in enumerate(SYMBOLS):
        table[symbol] = index
    for symbol, other in SAME.items():
        table[symbol] = SYMBOLS.index(other)
    return table


def symbols_of(ids: npt.ArrayLike) -> Ints:
    """Symbol indices of the teacher's phoneme ids."""
    return _index()[np.asarray(ids, np.int64)]


def quantise(f0: npt.NDArray[np.float64]) -> Ints:
    """Pitch indices [frames] of frequencies [frames], 0 where unvoiced.

    With hysteresis, and each half period in pairs: what is left over goes to the step below.
    """
    voiced = f0 > 0
    smooth = np.where(voiced, f0, np.nan)
    for at in np.flatnonzero(voiced):
        smooth[at] = np.median(f0[max(0, at - 2) : at + 3][voiced[max(0, at - 2) : at + 3]])
    away = np.abs(np.log(smooth)[:, None] - np.log(hertz(STEPS)))  # [frames, steps], NaN unvoiced
    distances, nearest = away.tolist(), np.argmin(away, 1).tolist()
    steps = np.zeros(len(f0), np.int64)
    current = None
    for at in np.flatnonzero(voiced).tolist():
        if current is None or distances[at][current] > distances[at][nearest[at]] + HOLD:
            current = nearest[at]
        steps[at] = STEPS[current]
    pitches = np.zeros(len(f0), np.int64)
    start = 0
    while start < len(f0):
        end = start
        while end < len(f0) and steps[end] == steps[start]:
            end += 1
        step, length = int(steps[start]), end - start
        if step % 2:
            paired = length - length % 2
            pitches[start : start + paired : 2] = PITCHES.index((step, 0))
            pitches[start + 1 : start + paired : 2] = PITCHES.index((step, 1))
            pitches[start + paired : end] = PITCHES.index((step - 1, 0))
        else:
            pitches[start:end] = PITCHES.index((step, 0))
        start = end
    return pitches


def frequencies(pitches: Ints) -> npt.NDArray[np.float64]:
    """Hertz of pitch indices, 0 where unvoiced."""
    return hertz(np.asarray(PITCHES)[:, 0])[pitches]


def codebook() -> torch.Tensor:
    """[CODES, DIMENSIONS] unit vectors: spread-out symbols beside spread-out pitches."""
    generator = torch.Generator().manual_seed(5)
    spread = torch.randn(130, SYMBOL_DIMENSIONS, generator=generator)
    spread = F.normalize(spread, dim=1).requires_grad_()
    optimizer = torch.optim.Adam([spread], 0.02)
    for _ in range(200):
        unit = F.normalize(spread, dim=1)
        loss = ((unit @ unit.T - 2 * torch.eye(len(unit))) * 8).exp().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    symbols = F.normalize(spread.detach(), dim=1)[: len(SYMBOLS)]
    pitches = torch.zeros(len(PITCHES), PITCH_DIMENSIONS)
    pitches[:5, :4] = _simplex(5)
    pitches[5:, 4:] = _simplex(len(PITCHES) - 5)
    rows = [
        torch.cat([symbol * 0.75**0.5, pitch * 0.25**0.5])
        for symbol in symbols
        for pitch in pitches
    ]
    return torch.stack(rows)


def _simplex(corners: int) -> torch.Tensor:
    """[corners, corners - 1] unit vectors, as far from each other as can be."""
    left, values, _ = torch.linalg.svd(torch.eye(corners) - 1 / corners)
    return F.normalize((left * values)[:, : corners - 1], dim=1)
