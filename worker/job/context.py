"""The context of one job: what its stages share beside the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from worker.api.request import SpeechRequest
from worker.api.response import SpokenSegment
from worker.audio.spool import Spool
from worker.cancellation import Cancellation
from worker.components import Components
from worker.job.result_keys import ResultKeys
from worker.stopwatch import Stopwatch
from worker.voices.choose import VoiceSources

Announce = Callable[[SpokenSegment], None]
Progress = Callable[[int, int], None]  # sentences spoken, sentences in all


@dataclass(frozen=True)
class Job:
    """One job under way: its id, what it works with, and who waits for it."""

    id: str
    components: Components
    folder: Path  # for its temporary files
    cancellation: Cancellation = field(default_factory=Cancellation)
    watch: Stopwatch = field(default_factory=Stopwatch)
    progress: Progress = lambda _done, _total: None
    announce: Announce | None = None  # is called with each sentence, where the job is streamed

    # For the caller, of an answer that is right; in order, each once.
    warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, warning: str) -> None:
        """Tell the caller something about a speech that is no error; once, from any thread."""
        self.warnings[warning] = None

    @cached_property
    def spool(self) -> Spool:
        """The file that holds the sentences' audio until the whole is written."""
        return Spool(self.folder / "spoken.f32")

    @property
    def voice_sources(self) -> VoiceSources:
        """What the job's voice may come from."""
        components = self.components
        return VoiceSources(
            components.engine,
            components.voices,
            components.fetch_reference,
            self.folder,
            self.cancellation,
            self.warn,
        )

    def keys(self, request: SpeechRequest) -> ResultKeys:
        """The keys of the job's results. Raises RequestError for an id that is no part of a key."""
        return ResultKeys.of(request, self.id, self.components.keys)

    def url(self, request: SpeechRequest, key: str) -> str:
        """A URL of the result under `key`; it lives as long as the job says, or else the worker."""
        seconds = request.url_expiry or self.components.url_expiry
        return self.components.storage.url(key, seconds)

    def store(self, file: Path, key: str, content_type: str) -> None:
        """Put a result into the storage. Raises StorageError, and JobCancelledError."""
        self.components.storage.put(file, key, content_type, cancellation=self.cancellation)
