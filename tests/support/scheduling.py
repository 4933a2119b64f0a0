"""Sequences through a scheduler of their own, and what a scheduler has to do."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.waiting import until
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import Answer, SequenceRequest, TokenSequence
from worker.speech.grammar import Grammar
from worker.speech.lm.interface import Decoder


def row(*prompt: int, limit: int = 10) -> SequenceRequest:
    """A request that is named by its prompt."""
    return SequenceRequest(prompt, f"{prompt}", limit)


def answers(asked: Sequence[TokenSequence]) -> list[Answer]:
    """All answers; a failure where one does not come, in place of a wait without end."""
    until(lambda: all(one.done for one in asked), 30)
    return [one.answer() for one in asked]


def told(asked: Sequence[TokenSequence]) -> list[list[int]]:
    """The tokens of all answers; a failure where one does not come."""
    return [list(one.tokens) for one in answers(asked)]


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
