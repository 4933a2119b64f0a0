"""The CPU's own kernels by themselves, on the benchmark's random weights of the full size.

python -m bench.kernels

Least and median of some calls: a prompt of so many tokens, a step of so many rows with its head,
the codec's waveform of so many tokens, the reading of the weights.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch

from bench.material import Material
from bench.measure import Work, seconds
from bench.ours import Ours
from bench.scale import SCALES
from worker.speech.checkpoint import Checkpoint
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_weights import Weights
from worker.speech.native.build import cores
from worker.speech.native.lm import LmKernel

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
PROMPTS = (60, 300, 560)
ROWS = (1, 2, 4, 8, 16)
WAVES = (60, 250)


@torch.inference_mode()
def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", choices=list(SCALES), default="full")
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    material = Material.make(options.cache.absolute(), SCALES[options.sizes])
    folder = Checkpoint(material.checkpoint).language_model
    config = LMConfig.read(folder / "config.json")
    for threads in (1, cores()):
        kernel = LmKernel.open(threads)
        if kernel is None:
            raise SystemExit("this machine cannot run the kernels")
        _say(f"weights read, {threads} threads", partial(Weights.read, folder, config, kernel), 3)
    ours = Ours(material.checkpoint)
    lm = ours.engine._lm
    cache = lm.new_cache(max(ROWS), 2048)
    head = lm.head(torch.tensor(ours.semantic_ids()))
    for count in PROMPTS:
        prompt = [5 + i % 100 for i in range(count)]
        _say(f"prompt of {count} tokens", partial(lm.prefill, [prompt], cache), 6)

    def step(rows: int) -> None:
        head(lm.step(torch.arange(rows), torch.full((rows,), 100), cache, 101))

    for rows in ROWS:
        _say(f"step of {rows} rows", partial(step, rows), 40)
    for count in WAVES:
        codes = [i % len(ours.semantic_ids()) for i in range(count)]
        _say(f"waveform of {count} tokens", partial(ours.decode, codes), 5)


def _say(what: str, work: Work, calls: int) -> None:
    taken = [1000 * seconds(work) for _ in range(calls)]
    print(f"{what}: {min(taken):.2f} ms, median {statistics.median(taken):.2f} ms")


if __name__ == "__main__":
    main()
