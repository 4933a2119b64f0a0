"""The same work on the same card in the same run by others: ours unfused or in int8, upstream's."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu import inside, steps, users
from bench.gpu.bench import Bench, Found
from bench.ours import has_fused
from bench.rates import lm_rate
from bench.sentences import sentences
from bench.their_folder import their_folder

if TYPE_CHECKING:
    from bench.theirs import Theirs

ROWS = (1, 8, 64)  # of int8, where there are as many slots
ALONE = "upstream's inference takes one text: at any number of streams it speaks them in turn"


def unfused(bench: Bench) -> Found:
    """What the table says of ours, of the same engine on torch's own kernels; fewer rounds."""
    if not (bench.on_gpu and has_fused()):
        return {"missing": "there are no fused kernels that could be left out"}
    return without_fused(bench)


def without_fused(bench: Bench) -> Found:
    """The same, whatever the engine has; the bench's own is let go meanwhile."""
    with _other(bench, fused=False) as other:
        stages = (users.rates, users.jobs, users.streams, steps.step, steps.profile)
        found: Found = {stage.__name__: stage(other) for stage in stages}
        return found | {"load_s": round(other.took["load"], 2)}


def int8(bench: Bench) -> Found:
    """Ours with weights of 8 bits beside ours as it is: tokens a second, steps, how near it is."""
    if not (bench.on_gpu and has_fused()):
        return {"missing": "in int8 a CPU has another kernel"}
    return with_int8(bench)


def with_int8(bench: Bench) -> Found:
    """The same, whatever the engine's int8 is; the bench's own engine is let go meanwhile."""
    found: Found = {"bfloat16": _language_model(bench)}
    mine = _logits(bench)
    with _other(bench, dtype="int8") as other:
        found["int8"] = _language_model(other) | {"load_s": round(other.took["load"], 2)}
        theirs = _logits(other)
    difference = float(np.sqrt(((theirs - mine) ** 2).mean()) / mine.std())
    return found | {
        "faster": {
            rows: round(rate / found["bfloat16"]["tokens_a_second"][rows], 3)
            for rows, rate in found["int8"]["tokens_a_second"].items()
            if rows in found["bfloat16"]["tokens_a_second"]
        },
        "rms_beside_bfloat16": round(difference, 5),
        "same_favourite": round(float((mine.argmax(1) == theirs.argmax(1)).mean()), 4),
    }


def _language_model(bench: Bench) -> Found:
    """Tokens a second and milliseconds of a captured step, by rows."""
    engine, scale = bench.ours.engine, bench.scale.less()
    rows = [count for count in ROWS if count <= inside.slots(engine)]
    rates = {str(count): lm_rate(bench.ours, count, scale) for count in rows}
    steps_of: Found = {}
    with torch.inference_mode():
        for count in rows:
            inside.put_at(engine, steps.POSITION)
            step = partial(inside.replay, engine, count, steps.SIGHT)
            steps_of[str(count)] = bench.median(step, scale.calls)
    return {"kind": bench.ours.kind, "tokens_a_second": rates, "step_ms": steps_of}


def _logits(bench: Bench) -> NDArray[np.float32]:
    """Of the same random tokens each time: [positions, codes]."""
    prompt, answer = steps.random_tokens(bench)
    return bench.ours.logits(prompt, answer)


@contextmanager
def _other(bench: Bench, **changes: object) -> Iterator[Bench]:
    """A bench of another engine, with fewer rounds; this one's own is let go meanwhile."""
    bench.checkpoint.stat()
    bench.unload()  # two engines at once would each have fewer slots on a small card
    other = replace(bench, scale=bench.scale.less(), took={}, **changes)
    try:
        yield other
    finally:
        other.unload()


def upstream(bench: Bench) -> Found:
    """Upstream's `SparkTTS.inference` by transformers, in bfloat16, held to our number of tokens.

    Its codec computes in float32, as it is written.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all of it lies here
    try:
        import transformers

        from bench.theirs import Theirs
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        return {"missing": "transformers is not installed"}
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    bench.unload()
    bench.forget_peak()
    loaded: list[Theirs] = []
    folder = their_folder(bench.checkpoint, bench.folder / "upstream")
    load = bench.seconds(lambda: loaded.append(Theirs(folder, bench.device, "bfloat16")))
    try:
        found = _spoken(bench, loaded[0]) | {"load_s": round(load, 2), "batch": ALONE}
        return found | {"peak_mb": bench.peak_memory() >> 20}
    finally:
        loaded.clear()
        bench.unload()  # gives its memory back


def _spoken(bench: Bench, theirs: Theirs) -> Found:
    """Medians of some sentences, after a short one."""
    tokens = bench.scale.job_tokens
    theirs.speak("The winter.", bench.scale.short_steps)
    whole, alone = [], []
    for text in sentences(bench.scale.upstream_rounds):
        whole.append(bench.seconds(partial(theirs.speak, text, tokens)))
        alone.append(theirs.lm_seconds)
    audio = tokens / users.TOKENS_A_SECOND
    seconds, lm = statistics.median(whole), statistics.median(alone)
    return {
        "tokens": tokens,
        "tokens_a_second": round(tokens / lm, 1),  # the prompt's reading among them
        "rtf": round(lm / audio, 4),
        "rtf_with_codec": round(seconds / audio, 4),
        "audio_a_second": round(audio / seconds, 2),
    }
