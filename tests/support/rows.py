"""Rows of an engine's batch: prompts of chosen lengths, and what each gives alone."""

from __future__ import annotations

from collections.abc import Sequence

from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import SequenceRequest, TokenSequence
from worker.speech.engine import Engine
from worker.speech.grammar import Grammar

TEXT = "The boy walked to the river."
# Draws of every kind: of few candidates, of all, of many, the likeliest alone.
KINDS = [
    Sampling(min_tokens=30, seed=3),
    Sampling(min_tokens=30, seed=4, top_k=0),
    Sampling(min_tokens=30, seed=5, top_k=100, top_p=1.0),
    Sampling(min_tokens=30, temperature=0),
]


def grammar_of(engine: Engine) -> Grammar:
    return engine._prompter.speech_grammar(engine._prompter.some_voice())


def request(engine: Engine, length: int, limit: int) -> SequenceRequest:
    """A prompt of so many tokens, which no other length's begins with."""
    text = engine._prompter.speech_prompt(TEXT, engine._prompter.some_voice())
    prompt = (text[length % len(text) :] + text * (length // len(text) + 1))[:length]
    return SequenceRequest(prompt, f"of {length}", limit)


def tokens_of(asked: Sequence[TokenSequence]) -> list[tuple[int, ...]]:
    return [one.answer().tokens for one in asked]


def alone(
    engine: Engine, requests: Sequence[SequenceRequest], hows: Sequence[Sampling]
) -> list[tuple[int, ...]]:
    """The tokens of each request that has the batch to itself."""
    found = []
    for one, how in zip(requests, hows, strict=True):
        found += tokens_of(engine._scheduler.submit([one], grammar_of(engine), how))
    return found
