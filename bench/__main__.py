"""`make bench`: our engine beside upstream's, on the same random weights, in one run.

    python -m bench [--only CASE,CASE] [--llama PYTHON] [--out docs/bench]

Both sides make the same numbers of tokens, in turn; medians count. On a noisy machine only figures
of one run may be compared, and every ratio in the table is of one run. `--only` measures some cases
anew and keeps the others of the file that is there. The exit status is 1 where a case is not met
and `--strict` is given.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from bench import accuracy, cases, device, growth, load, processes
from bench.material import Material
from bench.plots import draw
from bench.report import failures, included, table
from bench.scale import SCALES
from bench.sides import Sides
from bench.start import case as starts
from tests.support.worker_process import REPOSITORY
from worker import cpu_info
from worker.serve.startup import SWITCH_SECONDS

Case = Callable[[Sides], dict[str, Any]]
CASES: dict[str, Case] = {
    "sentence": cases.sentence,
    "text": cases.text,
    "jobs": cases.jobs,
    "cloning": cases.cloning,
    "batch": load.batch,
    "latency": load.latency,
    "first_audio": device.first_audio,
    "bandwidth": device.bandwidth,
    "concurrency": device.concurrency,
    "growth": growth.growth,
    "language_models": accuracy.language_models,
    "start": starts.start,
    "memory": processes.memory,
}
GPU_ONLY = ("concurrency",)  # minutes on a CPU, and more than it is for


def main() -> int:
    """Measure, write, print."""
    options = _options()
    transformers.logging.set_verbosity_error()
    logging.getLogger("worker").setLevel(logging.WARNING)
    sys.setswitchinterval(SWITCH_SECONDS)
    scale = SCALES[options.sizes]
    where = "cuda" if torch.cuda.is_available() else "cpu"
    material = Material.make(options.cache.absolute(), scale)
    sides = Sides(material, scale, where, options.dtype, options.llama)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "bench.json"
    results: dict[str, Any] = {}
    if options.only and file.is_file():
        results = json.loads(file.read_text())
    results |= {"machine": _machine(where), "scale": _counts(asdict(scale))}
    for name in options.only or CASES:
        if name in GPU_ONLY and where == "cpu" and scale.name == "full" and not options.only:
            continue
        started = time.perf_counter()
        print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
        results[name] = CASES[name](sides)
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
        file.write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    (options.out / "table.md").write_text(text)
    draw(results, options.out)
    document = options.out.parent / "PERFORMANCE.md"
    if document.is_file() and scale.name == "full":
        document.write_text(included(document.read_text(), text))
    print(text)
    return 1 if options.strict and failures(results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", choices=list(SCALES), default="full")
    parser.add_argument("--only", type=_names, help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--dtype", default="auto", help="of ours, as SPARK_DTYPE")
    parser.add_argument("--llama", help="a Python that has llama_cpp and gguf")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "bench")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache" / "bench")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a case is not met")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(CASES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such case: {', '.join(sorted(unknown))}")
    return names


def _machine(where: str) -> dict[str, Any]:
    return {
        "processor": cpu_info.model_name() or "unknown processor",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if where == "cuda" else "no GPU",
        "torch": torch.__version__,
        "commit": _commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def _commit() -> str:
    """The worker's, and whether it has been changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = " (changed)" if git("status", "--porcelain", "--", "worker") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _counts(scale: dict[str, Any]) -> dict[str, Any]:
    """The scale without the model's sizes, which its name says."""
    return {name: value for name, value in scale.items() if name != "sizes"}


if __name__ == "__main__":
    sys.exit(main())
