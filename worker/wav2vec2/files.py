"""The files of a wav2vec 2.0's weights. Knows no torch: a start reads them while it is imported."""

from __future__ import annotations

from pathlib import Path

from volume.layout import PREPARED

WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"


def weights_of(folder: Path) -> Path:
    """The file that is loaded: what was prepared, where it is there, else what was published."""
    prepared = folder / PREPARED / WEIGHTS
    return prepared if prepared.is_file() else published_weights_of(folder)


def published_weights_of(folder: Path) -> Path:
    """The published file; safetensors go first."""
    path = folder / WEIGHTS
    return path if path.is_file() else folder / PICKLED_WEIGHTS
