"""Who stands where in the batch, and what room each has in the cache.

First those that run, then those whose prompts are being read, the first of them first: so what runs
is always at the places 0 to n - 1, and who is read through needs no other place to run.
"""

from __future__ import annotations

from collections.abc import Collection

from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.sequence import TokenSequence
from worker.speech.lm.interface import Cache

# Positions that are left for each sequence of the batch when another joins, so that the newcomer is
# not soon put out again.
SPARE = 64


class Places:
    """The sequences of the batch by place."""

    def __init__(self) -> None:
        self.running: list[TokenSequence] = []
        self.reading: list[TokenSequence] = []

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self.running) + len(self.reading)

    @property
    def all(self) -> list[TokenSequence]:
        """All sequences, by place."""
        return [*self.running, *self.reading]

    @property
    def newest(self) -> TokenSequence:
        """The one that started last; of several, the one that stands last."""
        return max(reversed(self.all), key=lambda one: one.started or 0.0)

    def seat(self, place: int, sequence: TokenSequence, cache: Cache) -> bool:
        """Whether there is room for the sequence's prompt and more, beside those before it."""
        sequence.room = cache.reserve(place, sequence.room_to_start)
        if sequence.room and (cache.free is None or cache.free >= SPARE * place):
            return True
        cache.release(place)
        return False

    def have_room(self, cache: Cache) -> bool:
        """See that each one that runs has room for its next position; not where none is left."""
        for place, one in enumerate(self.running):
            if one.position >= one.room:
                one.room = cache.reserve(place, one.position + 1)
                if not one.room:
                    return False
        return True

    def start(self, count: int) -> None:
        """Let the first `count` that were read run."""
        self.running += self.reading[:count]
        del self.reading[:count]

    def take_out(self, going: Collection[TokenSequence], batch: DeviceBatch) -> None:
        """Take these out, and move others to the places that they had."""
        running, cache, behind = self.running, batch.cache, len(self.running)
        for place in reversed(range(behind)):
            if running[place] in going:
                running[place].leave()
                cache.release(place)
                last = len(running) - 1
                if place != last:
                    batch.move(last, place, running[last].position)
                    running[place] = running[last]
                running.pop()
        staying: list[TokenSequence] = []
        for place, one in enumerate(self.reading, behind):
            if one in going:
                one.leave()
                cache.release(place)
                continue
            target = len(running) + len(staying)
            if target != place:
                cache.copy(place, target, one.read)
            staying.append(one)
        self.reading = staying

    def clear(self, cache: Cache | None) -> None:
        """Take all out; what they had of the cache, if there is one, is free."""
        for place, one in enumerate(self.all):
            one.leave()
            if cache is not None:
                cache.release(place)
        self.running, self.reading = [], []
