"""The GPU check: stages one after the other, each apart from the others; see the package.

    python -m bench.gpu [--scale full|tiny] [--device cuda|cpu] [--only STAGE,STAGE]
                        [--deadline SECONDS] [--out docs/bench/gpu]

A stage that fails is told of, and the next one goes on; after the deadline none is begun. The
files are written after each stage. With --only the stages join those of the report of the same
card, torch and commit that is in the folder, if one is: so a check can be gone on with. The exit
status is 1 where a mark is missed or a stage failed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # before torch's import, which the deadline counts too

import torch  # noqa: E402

from bench.gpu import beside, device, failures, host, report, speech, steps, users  # noqa: E402
from bench.gpu.bench import Bench, Found  # noqa: E402
from bench.gpu.marks import FULL, GPU, MARKS, MISSED  # noqa: E402
from bench.gpu.scale import SCALES  # noqa: E402
from tests.support.worker_process import REPOSITORY  # noqa: E402

Stage = Callable[[Bench], Found]
DONE, LATE = "done", "no time left"
# What tells most comes first; what may spoil the process for the others comes last.
STAGES: dict[str, Stage] = {
    "speed": device.speed,
    "start": device.start,
    "rates": users.rates,
    "jobs": users.jobs,
    "streams": users.streams,
    "step": steps.step,
    "profile": steps.profile,
    "python": host.python,
    "codec": speech.codec,
    "graphs": steps.graphs,
    "attention": steps.attention,
    "seeds": steps.seeds,
    "company": speech.company,
    "unfused": beside.unfused,
    "upstream": beside.upstream,
    "int8": beside.int8,
    "small": speech.small,
    "cliffs": speech.cliffs,
    "logits": steps.logits,
    "memory": failures.memory,
    "nan": failures.nan,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the stages asked for."""
    options = _options(arguments)
    logging.getLogger("worker").setLevel(logging.ERROR)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU that this torch can use; DEVICE=cpu SCALE=tiny tries the check")
    as_in_a_worker = speech.interval(speech.WORKERS_INTERVAL)
    with tempfile.TemporaryDirectory() as folder, as_in_a_worker:
        bench = Bench(options.device, SCALES[options.scale], Path(folder))
        names = options.only or list(STAGES)
        results = run(
            bench, STAGES, names, options.deadline, options.out, merged=bool(options.only)
        )
    # A scheduler that frees tensors while Python ends would abort it.
    for thread in threading.enumerate():
        if thread.name == "scheduler":
            thread.join(5)
    print(report.table(results))
    failed = any(stage["outcome"] not in {DONE, LATE} for stage in results["stages"].values())
    return int(failed or any(mark["verdict"] == MISSED for mark in results["marks"]))


def run(
    bench: Bench,
    stages: dict[str, Stage],
    names: list[str],
    deadline: float,
    out: Path,
    *,
    merged: bool = False,
) -> dict[str, Any]:
    """Results of the stages, written to `out` after each one.

    `merged`: beside the other stages of the report of the same card and commit, if it is there.
    """
    results: dict[str, Any] = {
        "machine": report.machine(bench.device),
        "scale": bench.scale.name,
        "marks": [],
        "stages": {},
    }
    if merged:
        results["stages"] = report.stages_there(results, out)
    for name in names:
        begun = time.perf_counter()
        if begun - STARTED > deadline:
            stage = {"seconds": 0.0, "outcome": LATE, "found": None}
            there = results["stages"].get(name, stage)
            results["stages"][name] = there if there["outcome"] == DONE else stage
        else:
            results["stages"][name] = _stage(stages[name], bench)
        results["stages"] = {
            known: results["stages"][known]
            for known in [*stages, *results["stages"]]
            if known in results["stages"]
        }
        results["marks"] = _judged(results["stages"], bench)
        file = report.write(results, out)
        outcome = results["stages"][name]["outcome"]
        print(
            f"{name}: {outcome}, {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True
        )
    print(file, file=sys.stderr)
    return results


def _stage(stage: Stage, bench: Bench) -> dict[str, Any]:
    """What came of one: seconds, outcome, what it found."""
    begun = time.perf_counter()
    found: Found | None = None
    try:
        found, outcome = stage(bench), DONE
    except Exception as error:  # the next stage goes on
        outcome = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    return {"seconds": round(time.perf_counter() - begun, 2), "outcome": outcome, "found": found}


def _judged(stages: dict[str, Any], bench: Bench) -> list[dict[str, Any]]:
    there = [GPU] * bench.on_gpu + [FULL] * (bench.scale.name == "full")
    return [mark.judge(stages.get(mark.stage, {}).get("found"), there) for mark in MARKS]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", type=_names, help=f"some of: {', '.join(STAGES)}")
    parser.add_argument("--deadline", type=float, default=300, help="in seconds from the start")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "bench" / "gpu")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(STAGES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such stage: {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
