"""A small CTC model of espeak-ng's voice, trained by the test on a few dozen words."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from tests.support.spoken_words import SAMPLE_RATE, Spoken, paste

LETTERS = ("[PAD]", "|", *ascii_lowercase, "'")
VOCABULARY = [
    "the",
    "boy",
    "walked",
    "to",
    "river",
    "she",
    "opened",
    "window",
    "and",
    "looked",
    "at",
    "garden",
    "please",
    "turn",
    "off",
    "light",
    "my",
    "brother",
    "has",
    "a",
    "small",
    "dog",
    "big",
    "cat",
    "nineteen",
    "ninety",
    "nine",
    "three",
    "point",
    "five",
    "percent",
    "forty",
    "thousand",
    "dollars",
    "seven",
    "thirty",
]
_STEPS = 260
_BATCH = 8
_HOP = 320


def train(folder: Path) -> None:
    """Train on random word orders and pauses; save the model as Transformers reads it."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Wav2Vec2ForCTC(_config()).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=_STEPS)
    for _ in range(_STEPS):
        batch = [_random_speech(rng) for _ in range(_BATCH)]
        size = max(spoken.samples.size for spoken in batch)
        samples = torch.stack([torch.from_numpy(_padded(s.samples, size)) for s in batch])
        samples = (samples - samples.mean(1, True)) / (samples.std(1, keepdim=True) + 1e-7)
        logits = model(samples).logits
        targets = torch.stack([_targets(spoken, logits.shape[1]) for spoken in batch])
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.save_pretrained(folder)
    vocabulary = {letter: index for index, letter in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def _config() -> Wav2Vec2Config:
    return Wav2Vec2Config(
        vocab_size=len(LETTERS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=4,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        pad_token_id=0,
    )


def _random_speech(rng: np.random.Generator) -> Spoken:
    words = list(rng.choice(VOCABULARY, 5))
    return paste(words, list(rng.uniform(0.03, 0.3, len(words) + 1)))


def _padded(samples: np.ndarray, size: int) -> np.ndarray:
    return np.pad(samples, (0, size - samples.size))


def _targets(spoken: Spoken, frames: int) -> torch.Tensor:
    """One frame for each letter, spread over its word; one for the space where the word ends."""
    targets = torch.zeros(frames, dtype=torch.long)
    for word, start, end in spoken.words:
        for k, letter in enumerate(word):
            at = (start + (end - start) * k / len(word)) * SAMPLE_RATE / _HOP
            targets[min(round(at), frames - 1)] = LETTERS.index(letter)
        targets[min(round(end * SAMPLE_RATE / _HOP), frames - 1)] = LETTERS.index("|")
    return targets
