"""The search for a sentence's words without the aligner's network: WhisperX's own code and ours.

python -m bench.alignment

Milliseconds of one thread's CPU, medians, in turn. Nearly all of it is Python's, under its lock, so
it bounds the sentences that a whole worker can time in a second.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from types import SimpleNamespace

import numpy as np
import torch
import whisperx.alignment
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from bench.measure import Work
from worker.text.spoken.word_groups import WordGroup
from worker.timing.ctc_model import FRAME_SECONDS, SAMPLE_RATE, CtcModel
from worker.timing.search import search
from worker.timing.whisperx_align import load_align

ALPHABET = ("<pad>", "<s>", "</s>", "<unk>", "|", *ascii_uppercase, "'")  # of the model aligner-en
CHARACTERS = 3503  # of the model aligner-zh
TEXT = "the quick brown fox jumps over the lazy dog and runs along the river to the old mill"
CHINESE = "今天天气很好我们一起去图书馆看书吧"
SECONDS = (3, 4, 6)
ROUNDS = 20
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


def main() -> None:
    """Print a line for each language and length."""
    torch.set_num_threads(1)
    load_align()
    english = [letter.lower() for letter in ALPHABET]
    others = map(chr, range(0xAC00, 0xAC00 + CHARACTERS))  # as many as a large alphabet has
    chinese = ["<pad>", *dict.fromkeys(CHINESE), *others][:CHARACTERS]
    for seconds in SECONDS:
        _say(f"English, {seconds} s", TEXT[: 14 * seconds].strip(), _deaf("en", english, seconds))
        _say(f"Chinese, {seconds} s", CHINESE[: 3 * seconds], _deaf("zh", chinese, seconds))


def _deaf(language: str, letters: Sequence[str], seconds: int) -> CtcModel:
    """A model that hears the same noise in any window, at once."""
    draws = np.random.default_rng(2).standard_normal((1, 50 * seconds - 1, len(letters)))
    logits = torch.from_numpy(4 * draws).float()
    alphabet = {letter: index for index, letter in enumerate(letters)}
    return CtcModel(language, lambda _: logits, alphabet, normalise=False, device="cpu")


def _say(what: str, text: str, model: CtcModel) -> None:
    window = np.zeros(SAMPLE_RATE, np.float32)
    logits = model.logits(window)
    seconds = logits.shape[1] * FRAME_SECONDS
    words = [WordGroup.of(word) for word in (text.split() if " " in text else text)]

    def theirs() -> object:
        return whisperx.alignment.align(
            [{"text": text, "start": 0.0, "end": seconds}],
            lambda _: SimpleNamespace(logits=logits),
            {"language": model.language, "dictionary": model.alphabet, "type": "huggingface"},
            torch.zeros(round(seconds * SAMPLE_RATE)),
            "cpu",
        )

    sides: dict[str, Work] = {"WhisperX": theirs, "ours": partial(search, model, window, words)}
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, work in sides.items():
            taken[side].append(1000 * _cpu_seconds(work))
    figures = ", ".join(f"{side} {statistics.median(ms):.2f} ms" for side, ms in taken.items())
    print(f"{what}, {len(text)} characters: {figures}")


def _cpu_seconds(work: Work) -> float:
    """Of this thread, for one call."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


if __name__ == "__main__":
    main()
