"""The saved voices of a storage: read, written, listed and removed, the latest in memory."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from worker.api.new_voice import parse_name
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, RequestError, VoiceError
from worker.storage.base import READ_BYTES_MAX, Storage, StoredFile
from worker.storage.keys import Keys
from worker.voices.listed import ListedVoice
from worker.voices.memory import Memory
from worker.voices.saved import SavedVoice

IN_MEMORY = 256  # voices, of some kB each
FRESH_SECONDS = 60.0  # that a voice is used before it is read again: it may have been replaced
LISTED_IN_MEMORY = 10_000  # voices of lists, of some hundred bytes each
READERS = 8  # threads that read what a list has not seen before
ENDING = ".json"


class SavedVoices:
    """The saved voices below one prefix of one storage; for any threads."""

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage = storage
        self._keys = keys
        self._memory: Memory[SavedVoice] = Memory(IN_MEMORY, FRESH_SECONDS)
        self._listed: Memory[ListedVoice] = Memory(LISTED_IN_MEMORY)

    def __len__(self) -> int:
        return len(self._memory)

    def read(
        self, name: str, cancellation: Cancellation | None = None, field: str = "voice"
    ) -> SavedVoice:
        """The saved voice of this name. Raises VoiceError where there is none."""
        key = self._keys.voice_key(name, field=field)
        found = self._memory.recall(key)
        if found is None:
            changes = self._memory.changes
            try:
                found = SavedVoice.read(self._storage.read_bytes(key, cancellation=cancellation))
            except NotFoundError:
                raise missing(name, field) from None
            except ValueError:
                raise VoiceError(
                    f"{field}: {name}{ENDING} is not a voice that this worker saved; save it again",
                    field=field,
                ) from None
            self._memory.keep_read(key, found, changes)
        return found

    def write(
        self,
        name: str,
        voice: SavedVoice,
        cancellation: Cancellation | None = None,
        field: str = "voice",
    ) -> None:
        """Save the voice under this name; an older one of the name is replaced."""
        key = self._keys.voice_key(name, field=field)
        self._storage.write_bytes(
            key, voice.to_json(), "application/json", cancellation=cancellation
        )
        self._memory.keep(key, voice)

    def remove(
        self, name: str, cancellation: Cancellation | None = None, field: str = "voice"
    ) -> None:
        """Remove the voice of this name. Raises VoiceError where there is none."""
        key = self._keys.voice_key(name, field=field)
        there = self._storage.exists(key, cancellation=cancellation)
        if there:
            self._storage.delete(key, cancellation=cancellation)
        self._memory.forget(key)
        if not there:
            raise missing(name, field)

    def listed(self, cancellation: Cancellation | None = None) -> list[ListedVoice]:
        """All saved voices, in any order; what is not one of them is left out.

        A file is read once after each change of it, so that the first list of many voices takes
        longest.
        """
        files = self._storage.children(self._keys.voices, cancellation=cancellation)
        named = [(name, file) for file in files if (name := self._name_of(file)) is not None]
        known = {file.key: self._listed.recall((file.key, file.version)) for _, file in named}
        unknown = [(name, file) for name, file in named if known[file.key] is None]
        known.update(self._looked_at(unknown, cancellation))
        return [voice for voice in known.values() if voice is not None]

    def _name_of(self, file: StoredFile) -> str | None:
        """The name of the voice that the file is by its key; None where a job could not say it."""
        name = file.key.removeprefix(self._keys.voices)
        if not name.endswith(ENDING):
            return None
        try:
            return parse_name(name.removesuffix(ENDING), "voice")
        except RequestError:
            return None

    def _looked_at(
        self, files: Iterable[tuple[str, StoredFile]], cancellation: Cancellation | None
    ) -> dict[str, ListedVoice | None]:
        """Each file's voice by its key, read a few at a time; raises what fails first."""
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="voices")
        try:
            look = partial(self._look_at, cancellation=cancellation)
            futures = {file.key: pool.submit(look, name, file) for name, file in files}
            return {key: future.result() for key, future in futures.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _look_at(
        self, name: str, file: StoredFile, cancellation: Cancellation | None
    ) -> ListedVoice | None:
        """The voice of a file; None where it is gone meanwhile, or no voice."""
        if file.size > READ_BYTES_MAX:
            return None
        try:
            content = self._storage.read_bytes(file.key, cancellation=cancellation)
            voice = ListedVoice.of(name, "saved", SavedVoice.read(content))
        except (NotFoundError, ValueError):
            return None
        self._listed.keep((file.key, file.version), voice)
        return voice


def missing(name: str, field: str) -> VoiceError:
    """Make the error for a voice that is not there."""
    return VoiceError(
        f"{field}: there is no saved voice {name!r}, nor a built-in one; check the name, or save "
        "it first with save_voice",
        field=field,
    )
