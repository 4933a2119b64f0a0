"""The memory figures of docs/DEPLOY.md, from docs/bench/bench.json and the model's sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volume.layout import MODEL_PINS
from worker.speech.device_checks import FREE_BYTES
from worker.speech.engine import MOST_FUSED_SLOTS, ORDINARY_PAGES
from worker.speech.lm.paged_cache import PAGE

BEGIN = "<!-- Memory, written by `python -m docs.generate` from bench/bench.json. -->\n"
END = "<!-- Until here. -->"
BENCH = Path(__file__).parent / "bench" / "bench.json"
CHECKS = Path(__file__).parent / "bench" / "gpu"

# config.json of the published language model.
LAYERS, KEY_VALUE_HEADS, HEAD_DIM = 24, 2, 64
BFLOAT16 = 2  # bytes
FEATURES = 1_269_737_156  # bytes of the published wav2vec 2.0, of which 16 of 24 layers are loaded
CHINESE = 1_270_000_000  # bytes of its alignment model, which is of the same kind; not locked
CONTEXT = 3_500_000_000  # CUDA's context, kernels, captured steps, intermediate results: ASSUMED
CARDS = (16, 24, 48, 80)  # GB


def figures() -> str:
    """What is measured, and what is estimated for GPUs, as Markdown."""
    return _measured(json.loads(BENCH.read_text(encoding="utf-8"))) + "\n" + _estimated()


def _measured(bench: Mapping[str, Any]) -> str:
    machine, found = bench["machine"], bench["memory"]
    processes = found["processes"]
    said = (
        f"Measured by `make bench` on {machine['processor']}, {machine['threads']} threads, "
        f"{machine['device']}, with random weights of the published size: a worker that loads, "
        f"clones a voice and speaks needs {found['ours']} MB at most, mapped files included; "
        f"upstream {found['theirs']} MB. "
    )
    if "gpu_peak" not in processes["ours"]:
        return said + _checked()
    ours, theirs = (processes[side]["gpu_peak"] / 1e6 for side in ("ours", "theirs"))
    return said + f"Of the GPU's memory: {ours:.0f} MB; upstream {theirs:.0f} MB.\n"


def _checked() -> str:
    """What `make gpu-check` saw of a GPU's memory, last of all."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(CHECKS.glob("*.json"))]
    runs = [run for run in runs if run.get("scale") == "full" and run["machine"]["card"] != "cpu"]
    runs = [run for run in runs if run["stages"].get("start", {}).get("found")]
    if not runs:
        return "**For GPUs nothing has been measured.**\n"
    last = max(runs, key=lambda run: str(run["machine"]["date"]))
    start = last["stages"]["start"]["found"]
    return (
        f"By `make gpu-check` on {last['machine']['card']}, torch {last['machine']['torch']}: the "
        f"engine takes {start['gpu_mb'][-1]:,} MiB with room for {start['slots']} sentences at "
        "once, without alignment models.\n"
    )


def _estimated() -> str:
    sizes = {
        f"{name}/{file['path']}": file["size"]
        for name, model in json.loads(MODEL_PINS.read_text(encoding="utf-8"))["models"].items()
        for file in model["files"]
    }
    parts = [
        (
            "language model, bfloat16",
            sizes["Spark-TTS-0.5B/LLM/model.safetensors"] // 2,
            "half of the published file, which is float32",
        ),
        (
            "codec",
            sizes["Spark-TTS-0.5B/BiCodec/model.safetensors"],
            "the published file, float32; its wave generator is loaded in bfloat16",
        ),
        ("wav2vec 2.0 for references", FEATURES * 16 // 24, "16 of its 24 layers"),
        (
            "alignment models, English and Chinese",
            sizes["aligner-en/model.safetensors"] + CHINESE,
            "the published files; none where timings are not installed",
        ),
        ("CUDA and intermediate results", CONTEXT, "assumed"),
    ]
    fixed = sum(size for _, size, _ in parts)
    ordinary = ORDINARY_PAGES * PAGE
    row = LAYERS * 2 * KEY_VALUE_HEADS * HEAD_DIM * ordinary * BFLOAT16
    lines = [
        "An estimate for other GPUs, by arithmetic alone:",
        "",
        "| what lies on the GPU | MB | from |",
        "| --- | --- | --- |",
        *(f"| {name} | {size / 1e6:,.0f} | {source} |" for name, size, source in parts),
        f"| together | {fixed / 1e6:,.0f} | |",
        (
            f"| keys and values of an ordinary sentence | {row / 1e6:,.1f} | {ordinary} tokens of "
            f"prompt and answer x {LAYERS} layers x {KEY_VALUE_HEADS} heads x {HEAD_DIM} x 2 x "
            f"{BFLOAT16} bytes |"
        ),
        "",
        (
            f"The worker gives half of the memory that the weights leave to keys and values, or "
            f"less so that {FREE_BYTES >> 20:,} MiB stay, in pages of {PAGE} tokens that sentences "
            f"take as they grow; {MOST_FUSED_SLOTS} run at once at most. A sentence may be of any "
            "length: where pages run out, the one that began last waits, and goes on later."
        ),
        "",
        "| GPU memory | sentences at once, estimated | ordinary ones that the pages hold |",
        "| --- | --- | --- |",
        *(
            f"| {card} GB | {min(MOST_FUSED_SLOTS, held)} | {held:,} |"
            for card in CARDS
            for held in [_held(int(card * 1e9) - fixed, row)]
        ),
    ]
    return "\n".join(lines) + "\n"


def _held(free: int, row: int) -> int:
    """Ordinary sentences at once, by the engine's own rule."""
    return max(1, min(free // 2, free - FREE_BYTES) // row)
