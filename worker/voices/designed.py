"""The built-in voices that the model designs: each once, then from memory or the volume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from threading import Lock

from worker.cancellation import Cancellation
from worker.errors import NotAvailableError
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.voices.builtin import DESIGN_TEXT, Design
from worker.voices.cache import VoiceCache
from worker.voices.memory import Memory

_LOOK_SECONDS = 0.1  # how late a cancellation may be heard


class DesignedVoices:
    """Makes the voices of designs at first use, which costs some 37 tokens of the model each.

    Jobs that ask for one voice at the same time wait for the one that makes it; different voices
    share the model's batch.
    """

    def __init__(self, engine: Engine, cache: VoiceCache, designs: Iterable[Design]) -> None:
        self._engine = engine
        self._cache = cache
        self._locks = {design: Lock() for design in designs}
        self._memory: Memory[Voice] = Memory(len(self._locks))

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def available(self) -> bool:
        """Whether this model can design voices."""
        return self._engine.designs

    def make_all(self) -> None:
        """Make all that are not made yet, side by side; none where the model cannot design."""
        if not self.available or not self._locks:
            return
        with ThreadPoolExecutor(min(len(self._locks), self._engine.slots)) as pool:
            list(pool.map(partial(self.voice, "a built-in voice"), self._locks))

    def voice(self, name: str, design: Design, cancellation: Cancellation | None = None) -> Voice:
        """The voice of a design. Raises NotAvailableError where the model cannot make it."""
        found = self._memory.recall(design)
        if found is not None:
            return found
        with _held(self._locks[design], cancellation):
            found = self._memory.recall(design) or self._cache.recall(digest_of(design))
            if found is None:
                found = self._design(name, design, cancellation)
                self._cache.keep(digest_of(design), found)
            self._memory.keep(design, found)
            return found

    def _design(self, name: str, design: Design, cancellation: Cancellation | None) -> Voice:
        if not self._engine.designs:
            raise NotAvailableError(
                f"voice: {name!r} is a built-in voice that the model designs, and this model "
                "cannot design any; give a recording, or a saved voice, which the operator can "
                f"have {name!r} stand for with VOICE_NAMES",
                field="voice",
            )
        sampling = Sampling(seed=design.seed)
        return self._engine.design(design.style, DESIGN_TEXT, sampling, cancellation).voice


def digest_of(design: Design) -> str:
    """The sha256 that the cache knows a design by: of all that the voice comes from."""
    content = json.dumps([DESIGN_TEXT, design.seed, *astuple(design.style)])
    return hashlib.sha256(content.encode()).hexdigest()


@contextmanager
def _held(lock: Lock, cancellation: Cancellation | None) -> Iterator[None]:
    """Hold the lock; raise JobCancelledError where the job is cancelled before it is free."""
    while not lock.acquire(timeout=_LOOK_SECONDS):
        if cancellation is not None:
            cancellation.check()
    try:
        yield
    finally:
        lock.release()
