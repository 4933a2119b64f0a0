"""Whether a transcript is that of its recording: asked of the aligner once, then known.

What was found lies in memory and beside the cached voice of the recording, so that a clone that is
asked for again costs nothing. Each entry lies at a place that the first digits of its key say, as
those of cache.py do.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import soxr

from worker.atomic_write import replacing
from worker.audio.waveform import Audio
from worker.bounded_json import check_json
from worker.errors import VoiceError
from worker.logs import event
from worker.timing.aligner import Aligner
from worker.timing.ctc_model import SAMPLE_RATE
from worker.timing.transcript_fit import fit_of
from worker.voices.cache import PLACE_DIGITS
from worker.voices.memory import Memory

FOLDER = "transcripts"
IN_MEMORY = 1_024  # answers, of some hundred bytes each
ENTRY_BYTES_MAX = 1 << 10
FITS = ""  # in place of what does not fit


class Transcripts:
    """Holds transcripts against recordings, where there is an aligner; for any threads."""

    def __init__(self, aligner: Aligner | None, cache: Path) -> None:
        self._aligner = aligner
        self._folder = cache / FOLDER
        self._memory: Memory[str] = Memory(IN_MEMORY)

    @property
    def checks(self) -> bool:
        """Whether there is an aligner."""
        return self._aligner is not None

    def misfit(self, audio: Audio, recording: str, transcript: str) -> str | None:
        """Say in words why the transcript is not that of the audio.

        None where it is, or nobody can tell. `recording` is the sha256 of its samples.
        """
        if self._aligner is None:
            return None
        key = hashlib.sha256(f"{recording}\n{transcript}".encode()).hexdigest()
        known = self._memory.recall(key)
        if known is None:
            known = self._recall(key)
        if known is None:
            fit = fit_of(self._aligner, _at_16_khz(audio), transcript)
            if fit is None:
                return None  # another worker's aligner may tell
            known = fit.misfit or FITS
            self._keep(key, known)
        self._memory.keep(key, known)
        return known or None

    def _place(self, key: str) -> Path:
        return self._folder / f"{key[:PLACE_DIGITS]}.json"

    def _recall(self, key: str) -> str | None:
        """What is known of a key; None where no usable entry lies at its place."""
        try:
            with self._place(key).open("rb") as file:
                content = file.read(ENTRY_BYTES_MAX + 1)
            found = json.loads(check_json(content, objects=1, values=4))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("key") != key:
            return None
        misfit = found.get("misfit")
        return misfit if isinstance(misfit, str) else None

    def _keep(self, key: str, misfit: str) -> None:
        """Write what was found. A volume that is full or read-only costs time later."""
        path = self._place(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(json.dumps({"key": key, "misfit": misfit}))
        except OSError as error:
            event(logging.WARNING, "voice not cached", error=str(error))


def refused_transcript(field: str, misfit: str) -> VoiceError:
    """The error for a transcript that is not the recording's, given as `field`."""
    return VoiceError(
        f"{field}: it is not what the recording says: {misfit}; give the words that are said in "
        f"it, or leave {field} out; with transcript_mismatch 'ignore' it is taken as it is",
        field=field,
    )


def dropped_transcript(field: str, misfit: str) -> str:
    """The warning for one that was left out."""
    return (
        f"{field} was left out, for it is not what the recording says: {misfit}; give the words "
        "that are said in it, or set transcript_mismatch to 'ignore'"
    )


def _at_16_khz(audio: Audio) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if audio.sample_rate == SAMPLE_RATE:
        return audio.samples.astype(np.float32)
    resampled = soxr.resample(audio.samples, audio.sample_rate, SAMPLE_RATE, quality="HQ")
    return np.asarray(resampled, np.float32)
