"""The language model's steps: whether captured ones are what is written, and what they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.ours import Ours
from bench.step_bytes import BYTES, key_value_bytes, weight_bytes
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine

POSITION, SIGHT = 300, 512  # where the rows of timed steps are, and what they have in sight
PROFILED = 3  # steps
FEW = 3  # slots: fewer than the kernels compute at a time
GREEDY, SAMPLED, WIDE = Sampling(temperature=0), Sampling(seed=3), Sampling(seed=3, top_k=0)


def graphs(bench: Bench) -> Found:
    """Captured steps against the same ones as written, and a row alone against it in company.

    And captured steps of a batch that has few slots.
    """
    engine, steps = bench.ours.engine, bench.scale.steps
    found: Found = {"captured_sizes": inside.captured_sizes(engine)}
    for count in _rows(bench):
        for name, how in (("greedy", GREEDY), ("sampled", SAMPLED), ("wide", WIDE)):
            found[f"{count} {name}"] = _replayed(engine, [how] * count, steps)
    alone = tokens(engine, [SAMPLED], steps)[:, 0]
    for count in _rows(bench)[1:]:
        company = tokens(engine, [SAMPLED] * count, steps)[:, 0]
        found[f"row 0 of {count}, as alone until"] = _first(alone != company)
    with inside.slots_instead(engine, FEW):
        for count in (1, FEW):
            found[f"{count} sampled, {FEW} slots"] = _replayed(engine, [SAMPLED] * count, steps)
    return found


def _replayed(engine: Engine, how: Sequence[Sampling], steps: int) -> Found:
    """Whether captured steps of these rows are what is written, and repeat."""
    replayed, again = (tokens(engine, how, steps) for _ in range(2))
    written = tokens(engine, how, steps, as_written=True)
    return {
        "rows": len(how),
        "captured": len(how) in inside.captured_sizes(engine),
        "replay_is_as_written": round(float((replayed == written).mean()), 4),
        "first_difference": _first(replayed != written),
        "repeats": bool((replayed == again).all()),
    }


def seeds(bench: Bench) -> Found:
    """A row's tokens beside one neighbour, whose top_k is another each time.

    And whether the kernel draws from many tokens what torch does.
    """
    engine, mine = bench.ours.engine, Sampling(seed=7)
    made = {
        top_k: tokens(engine, [mine, Sampling(seed=8, top_k=top_k)], bench.scale.steps)[:, 0]
        for top_k in (50, 1, 64, 65, 1000, 0)
    }
    return {
        f"neighbour's top_k {top_k}, the same until": _first(row != made[50])
        for top_k, row in made.items()
    } | {
        "same": [bool((row == made[50]).all()) for row in made.values()],
        "wide_draws_are_torchs": {
            str(top_k): inside.draws_as_torch(engine, Sampling(top_k=top_k)) for top_k in (65, 0)
        },
    }


def tokens(
    engine: Engine, how: Sequence[Sampling], steps: int, *, as_written: bool = False
) -> np.ndarray:
    """Tokens [steps, rows] of a row for each sampling, by the worker's step or as written."""
    prompts = [
        [5 + (7 * row + place) % 90 for place in range(inside.PROMPT + row % 5)]
        for row in range(len(how))
    ]
    longest = max(map(len, prompts)) + 1
    step = inside.as_written if as_written else inside.replay
    with torch.inference_mode(), inside.its_stream(engine):
        inside.begin(engine, prompts, how, steps + 4)
        made = [step(engine, len(how), longest + i).clone() for i in range(steps)]
        return torch.stack(made).cpu().numpy()


def _first(different: np.ndarray) -> int | None:
    """The first step at which anything is different."""
    steps = different.reshape(len(different), -1).any(1)
    return int(steps.argmax()) if steps.any() else None


def _rows(bench: Bench) -> list[int]:
    most = inside.slots(bench.ours.engine)
    return [count for count in bench.scale.rows if count <= most]


def attention(bench: Bench) -> Found:
    """flash-attn's attention beside torch's on the same random cache: the greatest difference."""
    both = inside.attentions(bench.device)
    if both is None:
        return {"missing": "flash-attn is not installed, or there is no GPU"}
    config = bench.ours.engine._lm.config
    heads, shared, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    found: Found = {}
    for rows, new, before in ((1, 1, 300), (8, 1, 511), (33, 1, 1000), (64, 1, 3000), (4, 60, 0)):
        draws = torch.Generator("cuda").manual_seed(rows)

        def some(*shape: int, draws: torch.Generator = draws) -> torch.Tensor:
            return torch.randn(*shape, generator=draws, device="cuda").to(torch.bfloat16)

        q = some(rows, new, heads, width)
        k, v = some(rows, new, shared, width), some(rows, new, shared, width)
        keys, values = (some(rows, before + new + 70, shared, width) for _ in range(2))
        begins = torch.arange(rows, device="cuda")[:, None] % 7 + max(0, before - 7)
        positions = begins * (before > 0) + torch.arange(new, device="cuda")
        inputs = both.inputs(positions, before + new + 1)
        caches = [(keys.clone(), values.clone()) for _ in range(2)]
        flash, plain = (
            attend(q, k, v, *cache, inputs)
            for attend, cache in zip((both.flash, both.plain), caches, strict=True)
        )
        found[f"{rows} rows, {new} new after {before}"] = {
            "difference": float((flash.float() - plain.float()).abs().max()),
            "same_cache": all(map(torch.equal, *caches)),
        }
    return found


def step(bench: Bench) -> Found:
    """Milliseconds: captured steps, steps as written, prompts; and the memory's speed by it."""
    engine, most = bench.ours.engine, inside.slots(bench.ours.engine)
    found: Found = {"memory": {}}
    with torch.inference_mode():
        inside.put_at(engine, POSITION)
        for name, replay in inside.captured(engine).items():
            if int(name.partition(" ")[0]) in bench.scale.streams:
                found[f"captured {name}"] = bench.median(replay, bench.scale.calls // 3)
        for rows in (count for count in bench.scale.streams if count <= most):
            inside.put_at(engine, POSITION)
            taken = bench.median(lambda rows=rows: inside.replay(engine, rows, SIGHT))
            found["one row of 1" if rows == 1 else f"{rows} rows"] = taken
            found["memory"][str(rows)] = _memory(bench, rows, taken)
            inside.put_at(engine, POSITION)
            found[f"as written, {rows}"] = bench.median(
                lambda rows=rows: inside.as_written(engine, rows, SIGHT), 10
            )
        inside.put_at(engine, POSITION)
        lengths = iter(range(POSITION + 2, 9999))  # each step another one, as without captures
        found["as written, 1, length grows"] = bench.median(
            lambda: inside.as_written(engine, 1, next(lengths)), 10
        )
        for count in bench.scale.prompts:
            prompt = [5 + i % 90 for i in range(count)]
            first, *more = bench.milliseconds(lambda p=prompt: inside.prefill(engine, [p]), 6)
            found[f"prompt of {count}"] = {"first": first, "then": min(more)}
        many = [[5 + i % 90 for i in range(60)]] * min(16, most)
        found["16 prompts of 60"] = bench.median(lambda: inside.prefill(engine, many), 5)
    return found


def _memory(bench: Bench, rows: int, taken: float) -> Found:
    """What a step of so many milliseconds must read, and its share of what the memory can give."""
    config = bench.ours.engine._lm.config
    size = weight_bytes(config, len(bench.ours.semantic_ids()) + 1, BYTES[bench.ours.kind])
    size += key_value_bytes(config, rows, POSITION, bench.ours.engine._lm.dtype.itemsize)
    share = size / (taken / 1e3) / bench.copied_a_second
    return {"mb": round(size / 1e6, 1), "share": round(share, 4)}


def profile(bench: Bench) -> Found:
    """What a step of one row and one of the most rows consist of, as the worker takes them."""
    if not bench.on_gpu:
        return {"missing": "a CPU has no kernels to count"}
    engine = bench.ours.engine
    found: Found = {}
    for rows in sorted({1, inside.slots(engine)}):
        with torch.inference_mode():
            inside.put_at(engine, POSITION)
            inside.replay(engine, rows, SIGHT)  # whatever a first one sets up
            torch.cuda.synchronize()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
                for _ in range(PROFILED):
                    inside.replay(engine, rows, SIGHT)
                torch.cuda.synchronize()
        found[str(rows)] = one_step(
            (event.key, event.count, event.self_device_time_total) for event in seen.key_averages()
        )
    return found


def one_step(events: Iterable[tuple[str, int, float]]) -> Found:
    """Of a step, from the (name, count, microseconds) of PROFILED steps.

    Copies and fillings are no kernels: they are counted by themselves.
    """
    there = sorted((event for event in events if event[2]), key=lambda event: -event[2])
    copies = sum(count for name, count, _ in there if name.startswith(("Memcpy", "Memset")))
    return {
        "kernels": (sum(count for _, count, _ in there) - copies) // PROFILED,
        "copies": copies // PROFILED,
        "busy_ms": round(sum(taken for *_, taken in there) / PROFILED / 1e3, 3),
        "longest": [
            [name[:70], count // PROFILED, round(taken / PROFILED, 1)]
            for name, count, taken in there[:14]
        ],
    }


def logits(bench: Bench) -> Found:
    """Logits in bfloat16 on the device by those in float32 on a CPU, in units of their spread."""
    prompt, answer = random_tokens(bench)
    mine = bench.ours.logits(prompt, answer)
    exact = Ours(bench.checkpoint, "float32", "cpu").logits(prompt, answer)
    top = np.sort(mine, axis=1)
    return {
        "rms": round(float(np.sqrt(((mine - exact) ** 2).mean()) / exact.std()), 5),
        "same_favourite": round(float((mine.argmax(1) == exact.argmax(1)).mean()), 4),
        "first_two_tied": round(float((top[:, -1] == top[:, -2]).mean()), 4),
    }


def random_tokens(bench: Bench) -> tuple[list[int], list[int]]:
    """A prompt, and an answer of the codec's tokens: the same each time."""
    draws, semantic = np.random.default_rng(5), bench.ours.semantic_ids()
    prompt = [int(token) for token in draws.integers(0, 200, 60)]
    return prompt, [semantic[i] for i in draws.integers(0, len(semantic), bench.scale.judged)]
