"""Voices of an engine that hears the same in everything, with a bucket and a cache of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from worker.cancellation import Cancellation
from worker.speech.voice import Voice
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.voices.library import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)


class Ear:
    """In an engine's place: hears the same voice in everything, and says what it was asked."""

    def __init__(self) -> None:
        self.heard: list[tuple[Path, Cancellation | None]] = []
        self.unfit: str | None = None
        self.failure: Exception | None = None

    def listen(self, path: Path, *, cancellation: Cancellation | None = None) -> Voice:
        assert path.is_file()
        self.heard.append((path, cancellation))
        if self.failure is not None:
            raise self.failure
        return Voice((len(self.heard), 2), (5, 6, 7))

    designs = False

    def why_unusable(self, _voice: Voice) -> str | None:
        return self.unfit


class Heard:
    """Voices of such an engine, with a bucket and a cache of their own."""

    def __init__(self, folder: Path) -> None:
        self.ear = Ear()
        self.storage = LocalStorage(folder / "storage")
        self.cache = folder / "cache" / "tiny@1"
        self.voices = self.of(self.cache)

    def of(self, cache: Path) -> Voices:
        return Voices(self.ear, self.storage, KEYS, cache)

    def another(self) -> Voices:
        """Those of another worker with the same bucket, which has nothing in memory."""
        return self.of(self.cache)

    def cached(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


def sound(path: Path, seconds: float, loudness: float = 0.3) -> Path:
    t = np.arange(int(seconds * 16000)) / 16000
    soundfile.write(path, loudness * np.sin(2 * np.pi * 150 * t), 16000)
    return path
