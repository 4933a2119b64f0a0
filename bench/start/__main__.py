"""Starts of workers by themselves: some places, some rounds, any model.

    python -m bench.start [--model demo] [--slow 1,3] [--cold] [--starts N] [--upstream N]

`make bench ONLY=start` measures all of it. Without --upstream ours starts alone. The embedded model
has an aligner for English; upstream cannot read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.material import MODEL, Material
from bench.scale import SCALES
from bench.start.case import launching, measure
from bench.start.material import StartMaterial
from bench.start.report import tables
from tests.support.worker_process import REPOSITORY


def main() -> None:
    """Measure and print."""
    options = _options()
    scale = replace(
        SCALES[options.sizes],
        starts=options.starts,
        their_starts=options.upstream,
        cold_starts=options.cold,
        slow_starts=options.slow,
    )
    cache = options.cache.absolute()
    if options.model == "demo":
        scratch = cache / "demo-start"
        scratch.mkdir(parents=True, exist_ok=True)
        made = StartMaterial.embedded(scratch)
    else:
        material = Material.make(cache, scale)
        scratch = material.scratch
        made = StartMaterial.make(cache, scale, material)
    with launching(made, scratch, options.dtype) as launcher:
        found = measure(launcher, scale)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(tables(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=["demo", MODEL], default=MODEL)
    parser.add_argument("--sizes", choices=list(SCALES), default="full", help="of random weights")
    parser.add_argument("--slow", type=_latencies, default=(), help="milliseconds a call: 1,3")
    parser.add_argument("--cold", action="store_true", help="from an unread disk, too")
    parser.add_argument("--starts", type=int, default=1, help="of ours, at each place")
    parser.add_argument("--upstream", type=int, default=0, help="of upstream's, at each place")
    parser.add_argument("--dtype", default="auto", help="of ours, as SPARK_DTYPE")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache" / "bench")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def _latencies(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part)


if __name__ == "__main__":
    sys.exit(main())
