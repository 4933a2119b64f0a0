"""The benchmark's case of word timing: WhisperX by itself beside our aligner around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
from whisperx.alignment import align

from worker.timing.aligner import Aligner
from worker.timing.ctc_model import load_model
from worker.timing.word_timing import SentenceSpan

ALPHABET = ("<pad>", "<s>", "</s>", "<unk>", "|", *ascii_uppercase, "'")  # of the model aligner-en
TEXT = "the quick brown fox jumps over the lazy dog and runs along the river to the old mill"
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (32,) * 7,
}


def make_aligner(folder: Path, *, full: bool) -> Path:
    """A random model in the shape of aligner-en (wav2vec 2.0 base), or a tiny one."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(vocab_size=len(ALPHABET), **({} if full else TINY))
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    vocabulary = {letter: index for index, letter in enumerate(ALPHABET)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return folder


def alignment_sides(
    folder: Path, seconds: int, *, full: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Theirs and ours: align one sentence with `seconds` of audio."""
    make_aligner(folder, full=full)
    samples = 0.1 * np.random.default_rng(2).standard_normal(seconds * 16_000).astype(np.float32)
    span = SentenceSpan(TEXT, 0.0, float(seconds))
    loaded = load_model("en", folder, "cpu")
    ours = Aligner({"en": loaded})
    theirs = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    about = {"language": "en", "dictionary": loaded.alphabet, "type": "huggingface"}
    segment = {"text": TEXT, "start": 0.0, "end": float(seconds)}
    return (
        lambda: align([segment], theirs, about, samples, "cpu"),
        lambda: ours.align(samples, 16_000, [span]),
    )
