"""`make bench`: our engine beside upstream's own parts, on the same random full-size weights.

    python -m tests.bench.bench [--tokens 100] [--rounds 3] [--sizes full|tiny] [--json FILE]

Both sides make the same numbers of tokens. Each case alternates between the two and reports the
medians and their ratio: on a noisy machine only figures of one run may be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from spark_tts_lib.models.audio_tokenizer import BiCodecTokenizer
from transformers import AutoModelForCausalLM

from tests.bench.alignment import alignment_sides
from tests.support.checkpoints import FULL, Sizes, make_checkpoint
from worker.speech.batcher import Plan, Row, answer
from worker.speech.checkpoint import Checkpoint
from worker.speech.codec import Codec
from worker.speech.lm import LanguageModel
from worker.speech.sampling import Sampling
from worker.speech.upstream import find_upstream

CPU = torch.device("cpu")
ROWS = 8
PROMPT_TOKENS = 60
Case = tuple[str, float, Callable[[], object], Callable[[], object]]  # name, units, theirs, ours


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cases(folder: Path, tokens: int, reference: Path, *, full: bool) -> list[Case]:
    """What is compared; units are tokens, or seconds of audio."""
    lm = LanguageModel.load(folder / "LLM", torch.float32, CPU)
    codec = Codec.load(Checkpoint(folder), find_upstream(), CPU)
    with contextlib.redirect_stdout(io.StringIO()):
        their_codec = BiCodecTokenizer(folder, device=CPU)
    their_lm = AutoModelForCausalLM.from_pretrained(folder / "LLM", dtype=torch.float32).eval()
    rng = np.random.default_rng(0)
    prompt = rng.integers(10, 250, PROMPT_TOKENS).tolist()
    codes = rng.integers(0, codec.sizes.semantic_codes, (64, tokens))
    voice = tuple(rng.integers(0, codec.sizes.global_codes, codec.sizes.voice_length).tolist())
    allowed = Plan(steps=(frozenset(range(5, lm.config.vocab_size)),) * tokens)
    turn = iter(range(10**9))  # each round another length, as jobs have: lengths seldom repeat

    def their_tokens(rows: int) -> None:
        for _ in range(rows):  # upstream has no batches
            their_lm.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=True,
                top_k=50,
                top_p=0.95,
                temperature=0.8,
                pad_token_id=0,
            )

    def our_tokens(rows: int) -> None:
        answer(lm, [Row(tuple(prompt), f"{i}", tokens) for i in range(rows)], allowed, Sampling())

    def speech() -> np.ndarray:
        n = next(turn)
        return codes[n % len(codes)][: tokens - n // 2 % 40]

    def their_wave() -> None:
        their_codec.detokenize(torch.tensor([voice]), torch.tensor(speech())[None])

    def our_wave() -> None:
        codec.decode(voice, tuple(speech().tolist()))

    their_words, our_words = alignment_sides(folder / "aligner", 10, full=full)
    return [
        ("LM, one sentence", tokens, lambda: their_tokens(1), lambda: our_tokens(1)),
        (f"LM, {ROWS} sentences", ROWS * tokens, lambda: their_tokens(ROWS),
         lambda: our_tokens(ROWS)),
        ("codec, tokens to waveform", tokens, their_wave, our_wave),
        ("codec, 10 s of audio to tokens", 500, lambda: their_codec.tokenize(reference),
         lambda: codec.tokenize(reference)),
        ("word timing, 10 s of audio", 500, their_words, our_words),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", choices=["full", "tiny"], default="full")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        full = options.sizes == "full"
        folder = make_checkpoint(Path(name) / "checkpoint", FULL if full else Sizes())
        reference = Path(name) / "reference.wav"
        soundfile.write(reference, 0.1 * np.random.default_rng(1).standard_normal(160_000), 16_000)
        for case, units, theirs, ours in cases(folder, options.tokens, reference, full=full):
            times = [(seconds(theirs), seconds(ours)) for _ in range(options.rounds)]
            their_time, our_time = (statistics.median(side) for side in zip(*times, strict=True))
            rows.append(
                {
                    "case": case,
                    "upstream tokens/s": round(units / their_time, 1),
                    "ours tokens/s": round(units / our_time, 1),
                    "times faster": round(their_time / our_time, 2),
                }
            )
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, {options.sizes} size, {options.rounds} rounds")  # fmt: skip
    print(f"{'case':34}{'upstream':>12}{'ours':>12}{'ratio':>9}   (tokens/s, medians)")
    for row in rows:
        case, *figures = row.values()
        print(f"{case:34}{figures[0]:12}{figures[1]:12}{figures[2]:9}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
