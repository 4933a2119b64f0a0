"""The language model's steps: whether captured ones are what is written, and what they take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.ours import Ours
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine

GREEDY, SAMPLED = Sampling(temperature=0), Sampling(seed=3)


def graphs(bench: Bench) -> Found:
    """Captured steps against the same ones as written, and a row alone against it in company."""
    engine, steps = bench.ours.engine, bench.scale.steps
    found: Found = {"captured_sizes": inside.captured_sizes(engine)}
    for count in _rows(bench):
        for name, how in (("greedy", GREEDY), ("sampled", SAMPLED)):
            asked = [how] * count
            replayed, again = (tokens(engine, asked, steps) for _ in range(2))
            written = tokens(engine, asked, steps, as_written=True)
            found[f"{count} {name}"] = {
                "rows": count,
                "replay_is_as_written": round(float((replayed == written).mean()), 4),
                "first_difference": _first(replayed != written),
                "repeats": bool((replayed == again).all()),
            }
    alone = tokens(engine, [SAMPLED], steps)[:, 0]
    for count in _rows(bench)[1:]:
        company = tokens(engine, [SAMPLED] * count, steps)[:, 0]
        found[f"row 0 of {count}, as alone until"] = _first(alone != company)
    return found


def seeds(bench: Bench) -> Found:
    """A row's tokens beside one neighbour, whose top_k is another each time."""
    engine, mine = bench.ours.engine, Sampling(seed=7)
    made = {
        top_k: tokens(engine, [mine, Sampling(seed=8, top_k=top_k)], bench.scale.steps)[:, 0]
        for top_k in (50, 1, 64, 65, 1000, 0)
    }
    return {
        f"neighbour's top_k {top_k}, the same until": _first(row != made[50])
        for top_k, row in made.items()
    } | {"same": [bool((row == made[50]).all()) for row in made.values()]}


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
    """Milliseconds: each captured step, steps as written, prompts of new and known lengths."""
    engine, most = bench.ours.engine, inside.slots(bench.ours.engine)
    found: Found = {}
    with torch.inference_mode():
        inside.put_at(engine, 300)
        for name, replay in inside.captured(engine).items():
            found[f"captured {name}"] = bench.median(replay)
        for rows in (count for count in (1, 8, 32, 64) if count <= most):
            inside.put_at(engine, 300)
            found[f"one row of {rows}" if rows == 1 else f"{rows} rows"] = bench.median(
                lambda rows=rows: inside.replay(engine, rows, 512)
            )
            inside.put_at(engine, 300)
            found[f"as written, {rows}"] = bench.median(
                lambda rows=rows: inside.as_written(engine, rows, 512), 10
            )
        inside.put_at(engine, 300)
        lengths = iter(range(302, 9999))  # each step another one, as where nothing is captured
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


def profile(bench: Bench) -> Found:
    """What a captured step of one row and one of the most rows consist of."""
    engine = bench.ours.engine
    replays = inside.captured(engine)
    if not replays:
        return {"missing": "nothing is captured without a GPU"}
    found: Found = {}
    for name in (min(replays, key=_size), max(replays, key=_size)):
        inside.put_at(engine, 300)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            for _ in range(3):
                replays[name]()
            torch.cuda.synchronize()
        kernels = sorted(seen.key_averages(), key=lambda event: -event.self_device_time_total)
        kernels = [event for event in kernels if event.self_device_time_total]
        found[name] = {
            "kernels": sum(event.count for event in kernels) // 3,
            "busy_ms": round(sum(event.self_device_time_total for event in kernels) / 3e3, 3),
            "longest": [
                [event.key[:70], event.count // 3, round(event.self_device_time_total / 3, 1)]
                for event in kernels[:14]
            ],
        }
    return found


def _size(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split() if part.isdigit())


def logits(bench: Bench) -> Found:
    """Logits in bfloat16 on the device by those in float32 on a CPU, in units of their spread."""
    ours, draws = bench.ours, np.random.default_rng(5)
    semantic = ours.semantic_ids()
    prompt = [int(token) for token in draws.integers(0, 200, 60)]
    answer = [semantic[i] for i in draws.integers(0, len(semantic), bench.scale.judged)]
    mine = ours.logits(prompt, answer)
    exact = Ours(bench.checkpoint, "float32", "cpu").logits(prompt, answer)
    top = np.sort(mine, axis=1)
    return {
        "rms": round(float(np.sqrt(((mine - exact) ** 2).mean()) / exact.std()), 5),
        "same_favourite": round(float((mine.argmax(1) == exact.argmax(1)).mean()), 4),
        "first_two_tied": round(float((top[:, -1] == top[:, -2]).mean()), 4),
    }
