"""Reference audio or a saved name -> Voice.

A reference's tokens are cached on the volume by the content of its audio, so that a voice that
is used often is listened to once; the cache has a bounded number of places. A saved voice is
voices/NAME.json in the bucket (or the local folder): its tokens and, where known, its transcript or
style; no audio is needed to use it again.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from worker.api.field_types import MAX_PROMPT_TEXT
from worker.audio import files, waveform
from worker.bounded_json import check_json
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, VoiceError
from worker.logs import event
from worker.speech.engine import Engine
from worker.speech.voice import Style, Voice
from worker.storage.base import Storage
from worker.storage.keys import Keys
from worker.temp_folders import temp_prefix

FORMAT = 1
LONGEST = 4_096  # tokens: the 60 s that a reference may have, and some
VALUES_MAX = 2 * LONGEST  # of a saved voice: both kinds of tokens, and some
CACHED_BYTES_MAX = 1 << 20  # of a cached one: four for each token
# Of the content's sha256, which decide where it is cached: 65,536 places of some 10 kB, whatever
# comes.
PLACE_DIGITS = 4
_TOKENS = ("global_tokens", "semantic_tokens")
Tokens = Annotated[tuple[int, ...], Field(fail_fast=True)]
_REFERENCE = "prompt_speech_url"  # the field that every reference comes from


class SavedVoice(BaseModel):
    """What voices/NAME.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    model: str  # that made it, for the reader; only the sizes are checked
    global_tokens: Tokens
    semantic_tokens: Tokens = ()
    transcript: str | None = None
    style: Style | None = None


class Voices:
    """Makes voices with one engine, keeps them in one storage and one cache folder."""

    def __init__(self, engine: Engine, storage: Storage, keys: Keys, cache: Path) -> None:
        self._engine = engine
        self._storage = storage
        self._keys = keys
        self._cache = cache  # a folder of the model's own: tokens of one are not another's
        self._model = cache.name

    def listen(
        self, path: Path, transcript: str | None, cancellation: Cancellation | None = None
    ) -> Voice:
        """The voice in a reference audio file; from the cache when it was heard before.

        Raises VoiceError when the file is not audio, too short or long, or silent.
        """
        checked = files.read(path, field=_REFERENCE)
        files.check_reference(checked, field=_REFERENCE)
        content = _sha256(path)
        cached = self._cache / f"{content[:PLACE_DIGITS]}.safetensors"
        voice = self._recall(cached, content)
        if voice is None:
            voice = self._hear(checked, cancellation)
            _remember(cached, content, voice)
        return Voice(voice.global_tokens, voice.semantic_tokens, transcript)

    def _hear(self, checked: waveform.Audio, cancellation: Cancellation | None) -> Voice:
        """The voice in audio that was checked.

        Upstream reads a file, and would decode a stranger's once more, all at once and in its own
        way: a damaged one could fail there, or grow. So it gets the samples that were checked.
        """
        with TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "reference.wav"
            files.write_samples(checked, file)
            return self._engine.listen(file, cancellation=cancellation)

    def saved(self, name: str, cancellation: Cancellation | None = None) -> Voice:
        """The voice that was saved under this name.

        Raises VoiceError when there is none, or it does not fit this model.
        """
        key = self._keys.voice_key(name)
        try:
            content = self._storage.read_bytes(key, cancellation=cancellation)
            content = check_json(content, objects=4, values=VALUES_MAX)
            kept = SavedVoice.model_validate_json(content)
        except NotFoundError:
            raise VoiceError(
                f"voice: there is no saved voice {name!r}; save it first with save_voice",
                field="voice",
            ) from None
        except ValueError:
            raise VoiceError(
                f"voice: {name}.json is not a voice that this worker saved; save it again",
                field="voice",
            ) from None
        voice = Voice(kept.global_tokens, kept.semantic_tokens, kept.transcript, kept.style)
        unfit = self._engine.check(voice) or _too_long(voice)
        if kept.format != FORMAT or unfit:
            raise VoiceError(
                f"voice: {name!r} was saved by {kept.model} and does not fit {self._model}: "
                f"{unfit or f'its format is {kept.format}'}; save it again with this model",
                field="voice",
            )
        return voice

    def save(self, name: str, voice: Voice, cancellation: Cancellation | None = None) -> None:
        """Keep the voice under this name; an older one of the name is replaced."""
        spoken = voice.transcript is not None
        kept = SavedVoice(
            format=FORMAT,
            model=self._model,
            global_tokens=voice.global_tokens,
            semantic_tokens=voice.semantic_tokens if spoken else (),
            transcript=voice.transcript,
            style=voice.style,
        )
        key = self._keys.voice_key(name, field="save_voice")
        self._storage.write_bytes(
            key, kept.model_dump_json().encode(), "application/json", cancellation=cancellation
        )

    def _recall(self, path: Path, content: str) -> Voice | None:
        """The voice of this content that is cached; None where none is that can be read and fits.

        At its place may lie another's.
        """
        try:
            if path.stat().st_size > CACHED_BYTES_MAX:
                return None
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("sha256") != content:
                    return None
                tensors = {name: file.get_tensor(name) for name in _TOKENS}
            voice = Voice(_tokens(tensors["global_tokens"]), _tokens(tensors["semantic_tokens"]))
        except (OSError, SafetensorError, ValueError):
            return None
        return None if self._engine.check(voice) or _too_long(voice) else voice


def _tokens(tensor: torch.Tensor) -> tuple[int, ...]:
    """Tokens [n] as they are cached; raises ValueError for a tensor that holds none."""
    if tensor.dtype != torch.int32 or tensor.dim() != 1:
        raise ValueError(f"{tensor.dim()} dimensions of {tensor.dtype} are no tokens")
    return tuple(tensor.tolist())


def _too_long(voice: Voice) -> str | None:
    """Why no sentence could go on from this voice, or None: what a reference may have, it may."""
    if len(voice.semantic_tokens) > LONGEST:
        return f"it has {len(voice.semantic_tokens)} tokens of speech, more than {LONGEST}"
    if len(voice.transcript or "") > MAX_PROMPT_TEXT:
        return f"its transcript has more than {MAX_PROMPT_TEXT} characters"
    return None


def _remember(path: Path, content: str, voice: Voice) -> None:
    """Cache a voice, in place of one that lies there.

    A volume that is full or read-only costs time later, never the job.
    """
    tokens = {
        "global_tokens": torch.tensor(voice.global_tokens, dtype=torch.int32),
        "semantic_tokens": torch.tensor(voice.semantic_tokens, dtype=torch.int32),
    }
    staged = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            staged = Path(file.name)
        save_file(tokens, staged, metadata={"sha256": content})
        staged.replace(path)
    except (OSError, SafetensorError) as error:
        event(logging.WARNING, "voice not cached", error=str(error))
        if staged is not None:
            staged.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
