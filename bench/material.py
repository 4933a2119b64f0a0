"""What both sides work on: a random checkpoint on a volume, a reference."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from bench.scale import Scale
from bench.their_folder import readable
from tests.support.checkpoints import make_checkpoint
from volume.layout import PREPARED, Layout
from worker.prepare import prepare

RECIPE = 1  # whoever changes what is made here gives it a new number
MODEL = "Random"
TRANSCRIPT = "They said that it was cold."


@dataclass(frozen=True)
class Material:
    """Files that are made once and kept."""

    volume: Path  # a mount point of the network volume, with the checkpoint installed
    checkpoint: Path
    reference: Path  # a recording, 16 kHz mono
    scratch: Path  # what else a case makes

    @classmethod
    def make(cls, cache: Path, scale: Scale) -> Material:
        """Below `cache`, where it is not there yet."""
        folder = cache / f"{scale.name}-{RECIPE}"
        volume = folder / "volume"
        found = cls(
            volume=volume,
            checkpoint=Layout(volume).models / f"{MODEL}@seed-0",
            reference=folder / "reference.wav",
            scratch=folder / "scratch",
        )
        if not folder.is_dir():
            staged = folder.with_suffix(".part")
            shutil.rmtree(staged, ignore_errors=True)
            _write(staged, staged / found.checkpoint.relative_to(folder), scale)
            staged.rename(folder)
        if not (found.checkpoint / PREPARED).is_dir():  # its form has changed since
            prepare_once(found.checkpoint)
        found.scratch.mkdir(exist_ok=True)
        return found


def prepare_once(published: Path) -> None:
    """Write the model's prepared files, all of them or none."""
    staged = published.with_name(f"{published.name}.prepared")
    shutil.rmtree(staged, ignore_errors=True)
    prepare(published, staged)
    staged.rename(published / PREPARED)


def _write(folder: Path, checkpoint: Path, scale: Scale) -> None:
    make_checkpoint(checkpoint, scale.sizes)
    tokenizer = checkpoint / "LLM" / "tokenizer.json"
    tokenizer.write_text(readable(tokenizer.read_text()))
    noise = np.random.default_rng(1).standard_normal(scale.reference_seconds * 16_000)
    soundfile.write(folder / "reference.wav", 0.1 * noise, 16_000)
