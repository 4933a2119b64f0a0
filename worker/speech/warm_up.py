"""Runs on a GPU, before the first job, what jobs run, so that none of them waits for kernels.

CUDA loads a kernel when it first runs, and cuDNN plans each length that it has not seen: what is
run here is what comes again, at the lengths at which it does.

    prompts       one of each bucket of lengths
    a sentence    longer than all chunks of the codec, decoded at once and as an eager stream
    a reference   of ten seconds
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from worker.errors import MemoryShortError
from worker.logs import event
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.codec.codec import Codec
from worker.speech.codec_runner import CodecRunner
from worker.speech.prompt import Prompter

PROMPT_LENGTHS = (64, 128, 256, 512, 1024)  # tokens
SPEECH_TOKENS = 600  # more than the longest chunk
REFERENCE_SECONDS = 10


def warm_up(scheduler: Scheduler, codec: Codec, runner: CodecRunner, prompter: Prompter) -> None:
    """Run it all; where the memory does not suffice for all of it, the rest is left cold."""
    try:
        _prompts(scheduler, prompter)
        _sentence(codec, runner, prompter)
        _reference(codec, runner)
    except MemoryShortError as error:
        event(logging.WARNING, "warm-up cut short", error=error.message)


def _prompts(scheduler: Scheduler, prompter: Prompter) -> None:
    voice = prompter.some_voice()
    text = prompter.speech_prompt("Yes.", voice)
    for length in PROMPT_LENGTHS:
        if length + 2 <= scheduler.positions:
            prompt = (text * (length // len(text) + 1))[:length]
            (sequence,) = scheduler.submit(
                [SequenceRequest(prompt, "warm-up", 2)],
                prompter.speech_grammar(voice),
                Sampling(min_tokens=2),
            )
            sequence.answer()


def _sentence(codec: Codec, runner: CodecRunner, prompter: Prompter) -> None:
    voice = prompter.some_voice().global_tokens
    codes = (prompter.some_code(),) * SPEECH_TOKENS
    for eager in (False, True):
        runner.decode(partial(codec.decode, voice, codes, eager=eager))


def _reference(codec: Codec, runner: CodecRunner) -> None:
    samples = REFERENCE_SECONDS * codec.audio.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    runner.listen(partial(codec.tokens_of, noise), "a reference")
