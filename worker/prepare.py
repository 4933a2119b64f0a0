"""Writes what was published of a model anew, as files that load faster.

python -m worker.prepare PUBLISHED PREPARED

A voice model (worker/speech/prepare.py) has a config.yaml; any other is an alignment model
(worker/timing/prepare.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from worker.speech.prepare import prepare as prepare_voice_model
from worker.timing.prepare import prepare as prepare_aligner


def prepare(published: Path, prepared: Path) -> None:
    """Write the new folder `prepared`. Raises SetupError where `published` does not fit."""
    is_voice_model = (published / "config.yaml").is_file()
    (prepare_voice_model if is_voice_model else prepare_aligner)(published, prepared)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
