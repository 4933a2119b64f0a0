"""Keeps the best take of each sentence; those that came out badly are spoken again, a few times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from worker.audio.spool import Clip
from worker.job.speech_check import Verdict
from worker.speech.engine import Utterance
from worker.text.line import Line
from worker.timing.word_timing import WordTiming


@dataclass(frozen=True)
class Take:
    """A sentence as it was spoken once, finished and timed from its own start.

    Its audio is `clip`, on the disk: the utterance's own samples are dropped.
    """

    line: Line
    utterance: Utterance
    clip: Clip
    words: tuple[WordTiming, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Takes:
    """The take of each sentence that is kept, and those that are not."""

    kept: tuple[Take, ...]
    dropped: tuple[Take, ...]


def choose_takes(
    first: Iterable[Take],
    speak_again: Callable[[Sequence[Take], Sequence[int], int], Iterable[Take]],
    max_retries: int,
) -> Takes:
    """Keep the good takes; have the others spoken again, at most `max_retries` times each.

    `speak_again(kept, bad, attempt)` gives new takes of the sentences kept[i] for i in `bad`, in
    that order; `attempt` counts from 1. A new take is kept where less of it is wrong. What no take
    could do better is not spoken again.
    """
    kept = list(first)
    dropped: list[Take] = []
    for attempt in range(1, max_retries + 1):
        bad = [i for i, take in enumerate(kept) if not take.verdict.good and take.verdict.again]
        if not bad:
            break
        for i, take in zip(bad, speak_again(tuple(kept), bad, attempt), strict=True):
            better = take.verdict.seconds < kept[i].verdict.seconds
            dropped.append(kept[i] if better else take)
            kept[i] = take if better else kept[i]
    return Takes(tuple(kept), tuple(dropped))
