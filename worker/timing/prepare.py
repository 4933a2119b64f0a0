"""Writes an alignment model's weights anew, in half the bytes.

A start reads them, so bytes are seconds. They are computed with in float32: what float16 changes
are the last bits of weights, and what that changes is measured (docs/VOLUME.md).
"""

from __future__ import annotations

from pathlib import Path

from worker.wav2vec2.preparing import prepare_wav2vec2


def prepare(published: Path, prepared: Path) -> None:
    """Write the new folder `prepared`. Raises SetupError where `published` does not fit."""
    prepared.mkdir()
    prepare_wav2vec2(published, prepared, head=True, halved=True)
