"""The caches of voices on the volume: the model listens to a recording once, and designs once.

An entry is a saved voice's JSON with the sha256 of what is heard of the recording. It lies at a
place that the first digits of the sha256 say, in place of the voice that lay there before: the
cache has 65,536 places of some 15 kB at most, whatever comes. Whatever else lies at a place counts
as nothing. Designed voices, of which the operator's table has few, lie in a folder of their own
under the whole sha256 of what they are designed from.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from pydantic import ConfigDict

from worker.atomic_write import replacing
from worker.audio.waveform import Audio
from worker.logs import event
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.voices.saved import FORMAT, SavedVoice

PLACE_DIGITS = 4
WHOLE_DIGITS = 64  # of a sha256
DESIGNED = "designed"  # folder of the designed ones, in that of the model
ENTRY_BYTES_MAX = 1 << 16  # of an entry; the longest that a reference can have is half of it
FORMER_SUFFIX = ".safetensors"  # of the entries that former versions of the worker wrote


class CachedVoice(SavedVoice):
    """An entry of the cache: a voice, and the recording or the design that it comes from."""

    model_config = ConfigDict(strict=True)

    sha256: str


class VoiceCache:
    """Voices of one model, in a folder that its workers share.

    The tokens of one model mean nothing to another, so each model has a folder of its own.
    """

    def __init__(
        self, folder: Path, engine: Engine, model: str, place_digits: int | None = None
    ) -> None:
        self.folder = folder
        self._engine = engine
        self._model = model
        self._place_digits = place_digits

    def recall(self, recording: str) -> Voice | None:
        """The voice of the recording with this sha256; None where no usable entry is cached."""
        path = self._place(recording)
        try:
            with path.open("rb") as file:
                content = file.read(ENTRY_BYTES_MAX + 1)
            if len(content) > ENTRY_BYTES_MAX:
                return None
            entry = CachedVoice.read(content)
        except (OSError, ValueError):
            return None
        if entry.sha256 != recording or entry.why_unusable(self._engine) is not None:
            return None
        return entry.voice

    def keep(self, recording: str, voice: Voice) -> None:
        """Write the voice of the recording with this sha256, in place of what lies at its place.

        A volume that is full or read-only costs time later, never the job.
        """
        path = self._place(recording)
        entry = CachedVoice(
            format=FORMAT,
            model=self._model,
            global_tokens=voice.global_tokens,
            semantic_tokens=voice.semantic_tokens,
            style=voice.style,
            sha256=recording,
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(entry.to_json())
            path.with_suffix(FORMER_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            event(logging.WARNING, "voice not cached", error=str(error))

    def _place(self, recording: str) -> Path:
        return self.folder / f"{recording[: self._place_digits or PLACE_DIGITS]}.json"


def sha256_of(recording: Audio) -> str:
    """The sha256 of what is heard of a recording: the cache knows it by this, whatever its name.

    Of the samples and not of the file: a worker that reads more of a file, or another channel of
    it, must not be answered with what a former one heard.
    """
    digest = hashlib.sha256(f"{recording.sample_rate} Hz\n".encode())
    digest.update(recording.samples.tobytes())
    return digest.hexdigest()
