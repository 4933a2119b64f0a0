"""The language model in each precision, ours and llama.cpp's: its speed, and how exact it is.

The reference is transformers in float32 on the same weights and tokens; only the logits of the
codec's tokens count, for no others are drawn.
"""

from __future__ import annotations

import gc
import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from bench.ours import Ours
from bench.rates import lm_rate
from bench.sentences import sentences
from bench.sides import Sides
from tests.support.worker_process import REPOSITORY
from worker.errors import SetupError
from worker.settings import Settings

ROWS = (1, 8)  # streams at once
LOGITS = NDArray[np.float32]  # [positions, codes]


def language_models(sides: Sides) -> dict[str, Any]:
    """Rates and errors of each; what cannot run here says why."""
    scale, checkpoint = sides.scale, sides.material.checkpoint
    draws = np.random.default_rng(5)
    prompt, semantic = list(sides.ours.prompt(sentences(1)[0])), sides.ours.semantic_ids()
    answer = [semantic[code] for code in draws.integers(0, len(semantic), scale.judged)]
    sides.unload()
    exact, greedy = _reference(checkpoint / "LLM", prompt, answer, semantic, scale.greedy)
    found: dict[str, Any] = {"auto": sides.ours.kind, "ours": {}, "llama": {}}
    sides.unload()
    for kind in get_args(Settings.model_fields["spark_dtype"].annotation):
        if kind == "auto":
            continue
        try:
            ours = Ours(checkpoint, kind, sides.device)
        except SetupError as error:
            found["ours"][kind] = {"missing": str(error)}
            continue
        chosen = ours.speak(sentences(1), scale.greedy, temperature=0.0)[0].semantic_tokens
        found["ours"][kind] = {
            "tokens_per_second": {str(rows): lm_rate(ours, rows, scale) for rows in ROWS},
            **errors(exact, ours.logits(prompt, answer)),
            "greedy_agreed": _agreed(greedy, [semantic[code] for code in chosen]),
        }
        del ours
        gc.collect()
    if sides.llama:
        for kind, theirs in _llama(sides, prompt, answer, semantic).items():
            found["llama"][kind] = {
                "tokens_per_second": theirs["tokens_per_second"],
                **errors(exact, np.load(theirs["logits"])),
                "greedy_agreed": _agreed(greedy, theirs["greedy"]),
            }
    found["greedy_steps"] = scale.greedy
    found["judged_positions"] = scale.judged
    return found


def errors(exact: LOGITS, found: LOGITS) -> dict[str, float]:
    """Of logits, against exact ones; differences in units of the exact ones' spread."""
    difference = (found - exact) / exact.std()
    p, q = (torch.from_numpy(logits).double().log_softmax(-1) for logits in (exact, found))
    divergence = (p.exp() * (p - q)).sum(-1).mean()
    return {
        "greatest_difference": round(float(np.abs(difference).max()), 5),
        "rms_difference": round(float(np.sqrt((difference**2).mean())), 6),
        "divergence": float(f"{float(divergence):.3g}"),  # Kullback-Leibler, nats a token
        "top_1_agreement": round(float((exact.argmax(-1) == found.argmax(-1)).mean()), 4),
    }


@torch.inference_mode()
def _reference(
    lm: Path, prompt: list[int], answer: list[int], semantic: list[int], steps: int
) -> tuple[LOGITS, list[int]]:
    """Transformers' logits of the answer, and the answer that it would give."""
    model = AutoModelForCausalLM.from_pretrained(lm, dtype=torch.float32).eval()
    ids = torch.tensor([prompt + answer[:-1]])
    exact = model(ids).logits[0, len(prompt) - 1 :][:, semantic].numpy()
    greedy: list[int] = []
    step = model(torch.tensor([prompt]), use_cache=True)
    for _ in range(steps):
        greedy.append(semantic[int(step.logits[0, -1, semantic].argmax())])
        past = step.past_key_values
        step = model(torch.tensor([greedy[-1:]]), past_key_values=past, use_cache=True)
    return exact, greedy


def _agreed(exact: list[int], found: list[int]) -> int:
    """Tokens before the first that differs."""
    pairs = zip(exact, found, strict=True)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(exact))


def _llama(
    sides: Sides, prompt: list[int], answer: list[int], semantic: list[int]
) -> dict[str, Any]:
    scale = sides.scale
    asked = {
        "lm": str(sides.material.checkpoint / "LLM"),
        "out": str(sides.material.scratch / "llama"),
        "threads": torch.get_num_threads(),
        "rows": ROWS,
        "steps": scale.long_steps - scale.short_steps,
        "rounds": scale.rounds,
        "prompt": prompt,
        "answer": answer,
        "greedy": scale.greedy,
        "semantic": semantic,
    }
    done = subprocess.run(
        [str(sides.llama), str(REPOSITORY / "tests" / "bench" / "llama.py")],
        input=json.dumps(asked), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"llama.cpp: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
