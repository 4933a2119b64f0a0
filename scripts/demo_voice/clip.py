"""voices/demo.wav: the default reference clip, spoken by the checkpoint itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from scripts.demo_voice import styles
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import Voice

TEXT = "The children were playing in the garden when the rain began."


def write_clip(checkpoint: Path, path: Path) -> None:
    """16 kHz, mono, 16 bit; greedily decoded, so always the same."""
    engine = Engine.load(checkpoint, "float32", "cpu")
    voice = Voice(styles.GLOBALS[styles.GENDERS[0]])
    (spoken,) = engine.speak([TEXT], voice, Sampling(temperature=0, max_tokens=400))
    path.parent.mkdir(parents=True, exist_ok=True)
    peak = float(np.abs(spoken.samples).max())
    soundfile.write(path, spoken.samples * min(1.0, 0.9 / max(peak, 1e-6)), 16000, "PCM_16")
