"""The voices of one worker: made from reference audio, or saved under a name."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from worker.audio import files, waveform
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, VoiceError
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.storage.base import Storage
from worker.storage.keys import Keys
from worker.temp_folders import temp_prefix
from worker.voices.cache import VoiceCache, sha256_of
from worker.voices.reference import FIELD
from worker.voices.saved import SavedVoice


class Voices:
    """Makes voices with one engine; keeps them in one storage and one cache folder."""

    def __init__(self, engine: Engine, storage: Storage, keys: Keys, cache: Path) -> None:
        self._engine = engine
        self._storage = storage
        self._keys = keys
        self._cache = VoiceCache(cache, engine)
        self._model = cache.name

    def listen(
        self, path: Path, transcript: str | None, cancellation: Cancellation | None = None
    ) -> Voice:
        """The voice in a reference audio file; from the cache if the model has listened to it.

        Raises VoiceError when the file is not audio, too short or long, or silent.
        """
        checked = files.read(path, field=FIELD)
        files.check_reference(checked, field=FIELD)
        recording = sha256_of(path)
        voice = self._cache.recall(recording)
        if voice is None:
            voice = self._hear(checked, cancellation)
            self._cache.keep(recording, voice)
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
            found = SavedVoice.read(self._storage.read_bytes(key, cancellation=cancellation))
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
        reason = found.why_unusable(self._engine)
        if reason is not None:
            raise VoiceError(
                f"voice: {name!r} was saved by {found.model} and does not fit {self._model}: "
                f"{reason}; save it again with this model",
                field="voice",
            )
        return found.voice

    def save(self, name: str, voice: Voice, cancellation: Cancellation | None = None) -> None:
        """Save the voice under this name; an older one of the name is replaced."""
        key = self._keys.voice_key(name, field="save_voice")
        content = SavedVoice.of(voice, self._model).to_json()
        self._storage.write_bytes(key, content, "application/json", cancellation=cancellation)
