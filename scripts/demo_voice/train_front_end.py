"""Trains the front end: waveforms, disturbed, -> codes; beside it, when each letter begins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from scripts.demo_voice import codes, data
from scripts.demo_voice.codec import LETTER_IDS, FrontEnd
from scripts.demo_voice.codes import FRAME, FRAME_SECONDS, Ints
from scripts.demo_voice.data import Sound
from scripts.demo_voice.training import Training, on_device
from worker.speech.codec.upstream import find_upstream

BATCH = 1500  # frames
BLANK_WEIGHT = 0.2  # most frames begin no letter


def train(root: Path, seconds: float, start: dict[str, Tensor] | None = None) -> None:
    """Until so much audio was seen; from the state on disk, else from the weights `start`."""
    torch.manual_seed(0)
    model = FrontEnd(find_upstream())
    if start is not None:
        model.load_state_dict(start)
    optimizer = torch.optim.AdamW(model.parameters(), 1.5e-3, betas=(0.9, 0.98), weight_decay=0.01)
    training = Training("front end", root / "front_end.pt", model, [optimizer], seconds)
    generator = np.random.default_rng(training.steps)
    seen: list[list[float]] = []
    while not training.over:
        for samples, units, letters in shuffled(_shards(root), generator):
            of_codes, of_letters = model(samples)
            kept = units >= 0
            code_loss = F.cross_entropy(of_codes[kept], units[kept])
            letter_loss = letter_distance(of_letters, letters)
            right = (of_codes[kept].argmax(-1) == units[kept]).float().mean()
            seen.append([float(code_loss.detach()), float(letter_loss.detach()), float(right)])
            means = np.mean(seen[-100:], 0)
            note = f"codes {means[0]:.3f} (right {means[2]:.3f}), letters {means[1]:.3f}"
            amount = samples.numel() / FRAME * FRAME_SECONDS
            training.update(code_loss + 1.5 * letter_loss, amount, note)
            if training.over:
                return


def _shards(root: Path) -> list[Path]:
    return sorted((root / "sounds").glob("*.npz"))[data.HELD_OUT + 1 :]


def shuffled(
    shards: list[Path], generator: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One of the shards, disturbed: samples [B, N], codes and letters [B, T] by `collate`."""
    shard = shards[generator.integers(len(shards))]
    batches = _batched(sorted(data.sounds(shard), key=lambda sound: len(sound.codes)))
    for at in generator.permutation(len(batches)):
        yield collate(batches[at], generator)


def _batched(sounds: list[Sound]) -> list[list[Sound]]:
    """Sounds of about one length together."""
    batches: list[list[Sound]] = [[]]
    for sound in sounds:
        if (len(batches[-1]) + 1) * len(sound.codes) > BATCH and batches[-1]:
            batches.append([])
        batches[-1].append(sound)
    return batches if sounds else []


def collate(
    sounds: list[Sound], generator: np.random.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Samples [B, N], codes and letters [B, T], -1 where none; disturbed by the generator."""
    longest = max(len(sound.codes) for sound in sounds)
    samples = np.zeros((len(sounds), longest * FRAME), np.float32)
    units = np.full((len(sounds), longest - 1), -1, np.int64)
    letters = np.full((len(sounds), longest - 1), -1, np.int64)
    for row, sound in enumerate(sounds):
        wave = sound.samples.astype(np.float32) / 32767
        if generator is not None:
            wave = disturbed(wave, generator)
        samples[row, : len(wave)] = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        heard = len(sound.codes) - 1
        units[row, :heard] = sound.codes[:-1]
        begun = letter_frames(sound.text, sound.codes)
        if begun is not None:
            letters[row, :heard] = begun[:-1]
    return on_device(samples), on_device(units), on_device(letters)


def disturbed(wave: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """With noise, and a tilted spectrum: samples [N]."""
    tilt = generator.uniform(-0.5, 0.5)
    wave = np.convolve(wave, np.array([1.0, tilt], np.float32))[: len(wave)]
    level = 10 ** generator.uniform(-4, -2)
    return wave + generator.standard_normal(len(wave)).astype(np.float32) * np.float32(level)


def letter_frames(text: str, units: Ints) -> Ints | None:
    """Which letter begins in each frame [frames], 0 for none; None where words do not match.

    A word's letters are spread over its frames, and the mark between words is where one ends.
    """
    words = ["".join(c for c in word if c in LETTER_IDS) for word in text.split()]
    words = [word for word in words if word.strip("'")]
    spans, at = [], 0
    for silent, run in groupby(units.tolist(), key=codes.SILENT.__contains__):
        length = len(list(run))
        if not silent:
            spans.append((at, at + length))
        at += length
    if len(spans) != len(words):
        return None
    frames = np.zeros(len(units), np.int64)
    for word, (first, end) in zip(words, spans, strict=True):
        if len(word) > end - first:
            return None
        for n, letter in enumerate(word):
            frames[first + n * (end - first) // len(word)] = LETTER_IDS[letter]
        if end < len(frames):
            frames[end] = LETTER_IDS["|"]
    return frames


def letter_distance(logits: Tensor, letters: Tensor) -> Tensor:
    """Cross entropy of the letters' beginnings; blanks weigh less."""
    weights = torch.ones(logits.shape[-1], device=logits.device)
    weights[0] = BLANK_WEIGHT
    nats = F.cross_entropy(
        logits.transpose(1, 2), letters, weights, ignore_index=-1, reduction="sum"
    )
    return nats / (letters >= 0).sum().clamp(min=1)  # a batch may have no letters
