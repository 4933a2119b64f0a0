"""Small CTC models of espeak-ng's voices, trained by the tests on the words that they will hear."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from tests.support.spoken_words import SAMPLE_RATE, Pasted, paste


@dataclass(frozen=True)
class Lesson:
    """What a model learns: words in espeak-ng's voice, written in an alphabet after the blank."""

    voice: str
    words: tuple[str, ...]
    alphabet: tuple[str, ...]
    steps: int


ENGLISH = Lesson(
    "en",
    (
        *("the", "boy", "walked", "to", "river", "she", "opened", "window", "dog", "nineteen"),
        *("ninety", "nine", "three", "point", "five", "percent", "seven", "thirty", "dollars"),
        *("forty", "thousand"),
    ),
    ("[PAD]", "|", *ascii_lowercase, "'"),
    steps=140,
)
_CHARACTERS = tuple("一九百分之三点五年我们今天去看书")
CHINESE = Lesson("cmn", _CHARACTERS, ("[PAD]", *_CHARACTERS), steps=150)
_BATCH = 4
_HOP = 320  # samples of one frame


def train(folder: Path, lesson: Lesson) -> None:
    """Train on random word orders and pauses; save the model as Transformers reads it."""
    # oneDNN would compile its kernels anew for each length, which takes longer than the training.
    with torch.backends.mkldnn.flags(enabled=False):
        model = _trained(lesson)
    model.save_pretrained(folder)
    vocabulary = {letter: index for index, letter in enumerate(lesson.alphabet)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def _trained(lesson: Lesson) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model gains nothing by more
    rng = np.random.default_rng(0)
    model = Wav2Vec2ForCTC(_config(len(lesson.alphabet))).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=lesson.steps)
    weights = torch.ones(len(lesson.alphabet))
    weights[0] = 0.15  # nine frames in ten are blank
    for _ in range(lesson.steps):
        batch = [_random_speech(rng, lesson) for _ in range(_BATCH)]
        size = max(pasted.samples.size for pasted in batch)
        samples = torch.stack([torch.from_numpy(_padded(p.samples, size)) for p in batch])
        samples = (samples - samples.mean(1, True)) / (samples.std(1, keepdim=True) + 1e-7)
        logits = model(samples).logits
        targets = torch.stack(
            [_targets(pasted, logits.shape[1], lesson.alphabet) for pasted in batch]
        )
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    torch.set_num_threads(threads)
    return model


def _config(letters: int) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        vocab_size=letters,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        pad_token_id=0,
    )


def _random_speech(rng: np.random.Generator, lesson: Lesson) -> Pasted:
    words = list(rng.choice(lesson.words, 5))
    return paste(words, list(rng.uniform(0.03, 0.3, len(words) + 1)), lesson.voice)


def _padded(samples: np.ndarray, size: int) -> np.ndarray:
    return np.pad(samples, (0, size - samples.size))


def _targets(pasted: Pasted, frames: int, alphabet: tuple[str, ...]) -> torch.Tensor:
    """One frame for each letter, spread over its word; one for the space where the word ends."""
    targets = torch.zeros(frames, dtype=torch.long)
    for word, start, end in pasted.words:
        for k, letter in enumerate(word):
            at = (start + (end - start) * k / len(word)) * SAMPLE_RATE / _HOP
            targets[min(round(at), frames - 1)] = alphabet.index(letter)
        if "|" in alphabet:
            targets[min(round(end * SAMPLE_RATE / _HOP), frames - 1)] = alphabet.index("|")
    return targets
