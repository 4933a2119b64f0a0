"""Case (g): how cost and memory grow with sentences and with minutes of audio. Ours alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import soundfile

from bench.alignment import TEXT, make_aligner
from bench.cases import TOKENS_A_SECOND
from bench.measure import Work, peak_of, seconds
from bench.sentences import sentences
from bench.sides import Sides
from worker.speech.device import Lane
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan

SPAN = 10  # seconds of a sentence that is aligned, at most


def growth(sides: Sides) -> dict[str, Any]:
    """Seconds of work for a second of audio, and peak memory, along each of four ways to grow.

    On a GPU all work is done once before, so that no kernel is planned while it is measured; the
    memory is the machine's, not the GPU's.
    """
    scale, ours = sides.scale, sides.ours
    draws = np.random.default_rng(3)
    codes = draws.integers(0, ours.engine._codec.sizes.semantic_codes, 60 * TOKENS_A_SECOND)
    noise = 0.1 * draws.standard_normal(max(*scale.aligned, *scale.listened) * 16_000)
    noise = noise.astype(np.float32)
    full = scale.name == "full"
    folder = make_aligner(sides.material.scratch / "aligner", full=full)
    aligner = Aligner.load({"en": folder}, sides.device, Lane)
    recording = sides.material.scratch / "recording.wav"

    def listen(length: int) -> Work:
        soundfile.write(recording, noise[: length * 16_000], 16_000)
        return lambda: ours.engine.listen(recording)

    def align(length: int) -> Work:
        edges = range(0, length, SPAN)
        spans = [SentenceSpan(TEXT, float(at), float(min(at + SPAN, length))) for at in edges]
        return lambda: aligner.align(noise[: length * 16_000], 16_000, spans)

    def decode(length: int) -> Work:
        return lambda: ours.decode(np.resize(codes, length * TOKENS_A_SECOND).tolist())

    def speak(count: int) -> Work:
        texts = sentences(count)
        return lambda: ours.speak(texts, scale.text_tokens)

    def cost(size: int, audio: float, work: Work) -> dict[str, Any]:
        if sides.device == "cuda":
            work()
        return _cost(size, audio, work)

    spoken = scale.text_tokens / TOKENS_A_SECOND
    return {
        "speaking": [cost(n, n * spoken, speak(n)) for n in scale.texts],
        "decoding": [cost(n, n, decode(n)) for n in scale.decoded],
        "listening": [cost(n, n, listen(n)) for n in scale.listened],
        "aligning": [cost(n, n, align(n)) for n in scale.aligned],
    }


def _cost(size: int, audio: float, work: Work) -> dict[str, Any]:
    taken: list[float] = []
    peak = peak_of(lambda: taken.append(seconds(work)))
    return {
        "size": size,  # sentences, or seconds of audio
        "audio_seconds": round(audio, 2),
        "seconds": round(taken[0], 3),
        "per_audio_second": round(taken[0] / audio, 4),
        "peak_mb": round(peak / 2**20),
    }
