"""The codec, streams in company, exactness, and what makes a whole batch slow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import soundfile
import torch

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.gpu.users import TOKENS_A_SECOND, counts
from bench.ours import exactly
from bench.sentences import sentences
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from tests.support.worker_process import REPOSITORY
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.speech.voice import Voice

WORKERS_INTERVAL = 0.0003  # seconds after which a thread that waits for Python's lock is let in
PYTHONS_INTERVAL = 0.005  # what Python itself begins with
DEMO = REPOSITORY / "volume" / "demo"


def codec(bench: Bench) -> Found:
    """Milliseconds of a waveform at new and known lengths, in a new thread too; of listening.

    And of many sentences at once, each from a thread of its own, as wholes and as eager streams;
    and of each run that is captured, where the codec runs over many sentences' chunks at once.
    """
    ours = bench.ours
    codes = [i % 90 for i in range(max(bench.scale.decoded))]
    decoded: dict[str, list[float]] = {}
    for count in bench.scale.decoded:
        taken = bench.milliseconds(lambda count=count: ours.decode(codes[:count]))
        decoded.setdefault(str(count), []).extend(taken)
    known = bench.scale.decoded[0]
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(bench.milliseconds, lambda: ours.decode(codes[:known]), 2)
        new_thread = work.result()
    listened: dict[str, list[float]] = {}
    file = bench.folder / "reference.wav"
    for seconds in bench.scale.listened:
        noise = np.random.default_rng(1).standard_normal(seconds * 16_000)
        soundfile.write(file, 0.1 * noise, 16_000)
        taken = bench.milliseconds(lambda: ours.engine.listen(file))
        listened.setdefault(f"{seconds} s", []).extend(taken)
    return {
        "tokens": decoded,
        "known_length": min(decoded[str(known)][1:]),
        "known_length_in_a_new_thread": new_thread,
        "reference": listened,
        "at_once": {str(count): _at_once(bench, codes[:known], count) for count in counts(bench)},
        "runs": {
            name: bench.median(run, bench.scale.calls // 3)
            for name, run in inside.codec_runs(ours.engine).items()
        },
    }


def _at_once(bench: Bench, codes: list[int], count: int) -> Found:
    """Seconds of audio a second by the codec alone, of so many sentences of these codes."""
    ours = bench.ours
    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: ours.decode(codes),
        "eager": lambda: inside.stream_alone(ours.engine, ours.voice, codes),
    }
    found: Found = {}
    for name, work in ways.items():

        def all_of_them(work: Callable[[], object] = work) -> None:
            for one in [ours.thread(number).submit(work) for number in range(count)]:
                one.result()

        taken = bench.median(all_of_them, 3, warm=1)
        audio = count * len(codes) / TOKENS_A_SECOND
        found[name] = {"ms": round(taken, 2), "audio_a_second": round(1e3 * audio / taken, 1)}
    return found


def company(bench: Bench) -> Found:
    """Many streams at once: each sentence's audio against its tokens streamed alone, and whole.

    The first is the same work, so only a race could give other samples; in bfloat16 the second
    rounds otherwise.
    """
    ours, count = bench.ours, bench.scale.company
    how = exactly(bench.scale.company_tokens, seed=1)

    def whole(text: str) -> Utterance:
        pieces = list(ours.engine.stream([text], ours.voice, how))
        (spoken,) = [piece.utterance for piece in pieces if piece.utterance]
        return spoken

    with ThreadPoolExecutor(count) as threads:
        spoken = list(threads.map(whole, sentences(count)))
    apart, from_whole = [], []
    for one in spoken:
        alone = inside.stream_alone(ours.engine, ours.voice, one.semantic_tokens)
        apart.append(float(np.abs(alone - one.samples).max()))
        from_whole.append(float(np.abs(ours.decode(one.semantic_tokens) - one.samples).max()))
    return {
        "greatest_difference": max(apart),
        "the_same": sum(value == 0 for value in apart),
        "of": len(apart),
        "greatest_difference_from_whole": max(from_whole),
    }


# Exactness


def small(bench: Bench) -> Found:
    """The embedded and a tiny random voice: float32 on the CPU against ways on the device."""
    tiny = make_random_checkpoint(bench.folder / "small", Sizes(), bench.device)
    before = torch.backends.cudnn.allow_tf32
    found: Found = {}
    try:
        for name, folder in (("embedded", DEMO / "checkpoint"), ("random", tiny)):
            exact = _said(bench, Engine.load(folder, "float32", "cpu"))
            for kind, tf32 in (("float32", False), ("float32, TF32", True), ("bfloat16", False)):
                engine = Engine.load(folder, kind.partition(",")[0], bench.device)
                torch.backends.cudnn.allow_tf32 = tf32  # which the engine switches off
                found[f"{name}, {kind}"] = _compared(exact, _said(bench, engine))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return found


def _said(bench: Bench, engine: Engine) -> dict[str, Any]:
    """What an engine makes of the embedded recording and of three sentences."""
    most = bench.scale.exact_tokens
    texts = ["The boy walked to the river.", "It was cold.", "They said that."]
    how = Sampling(max_tokens=most, min_tokens=most // 2, seed=3)
    voice = engine.listen(DEMO / "voices" / "demo.wav")
    spoken, again = (list(engine.speak(texts, voice, how)) for _ in range(2))
    pieces = engine.stream(texts, voice, how)
    return {
        "voice": voice.semantic_tokens + voice.global_tokens,
        "sampled": spoken,
        "greedy": list(engine.speak(texts, voice, Sampling(temperature=0, max_tokens=most))),
        "repeats": all(
            a.semantic_tokens == b.semantic_tokens and np.array_equal(a.samples, b.samples)
            for a, b in zip(spoken, again, strict=True)
        ),
        "streamed": [piece.utterance for piece in pieces if piece.utterance],
    }


def _compared(exact: dict[str, Any], mine: dict[str, Any]) -> Found:
    pairs = {
        name: list(zip(exact[name], mine[name], strict=True)) for name in ("sampled", "greedy")
    }
    return {
        "same_voice_tokens": round(
            float(np.mean([a == b for a, b in zip(exact["voice"], mine["voice"], strict=True)])), 4
        ),
        **{
            f"{name}_same": [a.semantic_tokens == b.semantic_tokens for a, b in pair]
            for name, pair in pairs.items()
        },
        "audio_difference": [_apart(a, b) for a, b in pairs["sampled"]],
        "repeats": mine["repeats"],
        "streamed_difference": [
            _apart(a, b) for a, b in zip(mine["sampled"], mine["streamed"], strict=True)
        ],
    }


def _apart(one: Utterance, other: Utterance) -> float | None:
    """The greatest difference of the samples of the same tokens; None of other tokens."""
    if one.semantic_tokens != other.semantic_tokens:
        return None
    return float(f"{np.abs(one.samples - other.samples).max():.3g}")


# Cliffs


def cliffs(bench: Bench) -> Found:
    """What may make a whole batch slow, each way by the batch as it ever is: times its seconds."""
    jobs, tokens = bench.scale.cliff_jobs, bench.scale.cliff_tokens
    designed = bench.ours.voice
    cloned = Voice(designed.global_tokens)
    ever = _batch(bench, jobs, tokens)
    found: Found = {"as_ever_s": ever}
    found["one_row_with_top_k_0"] = _times(
        ever, _batch(bench, jobs, tokens, top_k=lambda i: 50 if i else 0)
    )
    found["half_designed_voices"] = _times(
        ever, _batch(bench, jobs, tokens, voice=lambda i: designed if i % 2 else cloned)
    )
    jobs, tokens = bench.scale.busy_jobs, bench.scale.busy_tokens
    for name, seconds in (
        ("beside_a_busy_thread", WORKERS_INTERVAL),
        ("beside_a_busy_thread_at_a_third_of_the_interval", WORKERS_INTERVAL / 3),
    ):
        with interval(seconds):
            ever = _batch(bench, jobs, tokens)
            with _busy_python():
                found[name] = _times(ever, _batch(bench, jobs, tokens, rounds=1))
    # A smaller batch, for this takes its time.
    jobs, tokens = max(2, jobs // 4), max(3, tokens // 16)
    with interval(PYTHONS_INTERVAL):
        ever = _batch(bench, jobs, tokens)
        with _busy_python():
            slow = _batch(bench, jobs, tokens, rounds=1)
    found["a_small_one_at_pythons_interval"] = _times(ever, slow)
    return found


def _times(ever: float, seconds: float) -> float:
    return round(seconds / ever, 2)


def _batch(
    bench: Bench,
    jobs: int,
    tokens: int,
    *,
    voice: Callable[[int], Voice] | None = None,
    top_k: Callable[[int], int] = lambda _i: 50,
    rounds: int = 2,
) -> float:
    """Seconds of so many jobs at once without the codec, the best of some rounds."""
    ours, texts = bench.ours, sentences(jobs)

    def job(i: int) -> None:
        how = exactly(tokens, seed=i, top_k=top_k(i))
        list(ours.engine.speak([texts[i]], voice(i) if voice else ours.voice, how))

    def all_jobs() -> None:
        with ThreadPoolExecutor(jobs) as threads:
            list(threads.map(job, range(jobs)))

    with ours.without_codec():
        return min(bench.seconds(all_jobs) for _ in range(rounds))


@contextmanager
def interval(seconds: float) -> Iterator[None]:
    """Let threads wait so long for Python's lock within the block."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _busy_python() -> Iterator[None]:
    """A thread that does nothing but compute in Python, as alignment does."""
    stop = threading.Event()

    def compute() -> None:
        x = 0
        while not stop.is_set():
            for i in range(1000):
                x += i * i

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
