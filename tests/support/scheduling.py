"""Sequences through a scheduler of their own, and what a scheduler has to do."""

from __future__ import annotations

from collections.abc import Sequence

from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import Answer, SequenceRequest
from worker.speech.grammar import Grammar
from worker.speech.lm.interface import Decoder


def answer(
    lm: Decoder, requests: Sequence[SequenceRequest], grammar: Grammar, sampling: Sampling
) -> list[Answer]:
    """The answers of all sequences, in order, from one batch of their own."""
    longest = max(len(one.prompt) + one.limit for one in requests)
    scheduler = Scheduler(lm, slots=len(requests), positions=longest)
    return [one.answer() for one in scheduler.submit(requests, grammar, sampling)]


def occupancy(scheduler: Scheduler) -> tuple[int, int]:
    """Sequences that have a slot, and sequences that wait."""
    with scheduler._changed:
        return len(scheduler._places), len(scheduler._waiting)
