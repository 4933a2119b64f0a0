"""The same work on the same card in the same run by others: ours unfused, and upstream's own."""

from __future__ import annotations

import os
import statistics
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bench.gpu import steps, users
from bench.gpu.bench import Bench, Found
from bench.ours import has_fused
from bench.sentences import sentences
from bench.their_folder import their_folder

if TYPE_CHECKING:
    from bench.theirs import Theirs

ALONE = "upstream's inference takes one text: at any number of streams it speaks them in turn"


def unfused(bench: Bench) -> Found:
    """What the table says of ours, of the same engine on torch's own kernels; fewer rounds."""
    if not (bench.on_gpu and has_fused()):
        return {"missing": "there are no fused kernels that could be left out"}
    return without_fused(bench)


def without_fused(bench: Bench) -> Found:
    """The same, whatever the engine has; the bench's own is let go meanwhile."""
    bench.checkpoint.stat()
    bench.unload()  # two engines at once would each have fewer slots on a small card
    other = replace(bench, fused=False, scale=bench.scale.less(), took={})
    try:
        stages = (users.rates, users.jobs, users.streams, steps.step, steps.profile)
        found: Found = {stage.__name__: stage(other) for stage in stages}
        return found | {"load_s": round(other.took["load"], 2)}
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
