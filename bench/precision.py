"""How far the precisions of the language model, a GPU's too, are from float32; needs no GPU.

    python -m bench.precision [--sizes full|tiny]

Hidden states by their size and logits by their spread, as roots of mean squares; how often the same
token is the favourite. Random tokens: a prompt, then steps. A GPU's own kernels are run on the CPU
(tests/support/cuda_on_cpu): slow, so that of the published size only their weights count, in
float32, without what activations lose. Random weights have no outliers, and lose least by scales
that many weights share; the embedded model is trained.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.gpu.figures import markdown
from tests.support.cuda_on_cpu import CpuLauncher
from tests.support.random_checkpoint import FULL, Sizes, make_random_checkpoint
from tests.support.rounded_weights import with_rounded_weights
from tests.support.worker_process import REPOSITORY
from worker.speech.cuda import lm as kernels
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.int8_weights import why_unsupported
from worker.speech.lm.interface import Decoder
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel

CPU = torch.device("cpu")
DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
PROMPT, STEPS = 60, 40  # tokens
HEAD = ("model", "language model in", "hidden states", "logits", "same favourite")
SMALL = Sizes(hidden=448, heads=7, kv_heads=1, intermediate=1216, layers=2, spread=0.04)
# What the layers are is the published model's; the rest is as small as can be.
PUBLISHED = replace(
    Sizes(), hidden=FULL.hidden, layers=FULL.layers, heads=FULL.heads, kv_heads=FULL.kv_heads,
    intermediate=FULL.intermediate, vocabulary=9000, spread=FULL.spread,
)  # fmt: skip
Load = Callable[[Path], Decoder | None]  # None: not on this machine


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", choices=["full", "tiny"], default="full")
    options = parser.parse_args(arguments)
    lines = [HEAD]
    with tempfile.TemporaryDirectory() as made:
        for name, folder, kinds in _models(Path(made), full=options.sizes == "full"):
            exact = found(LanguageModel.load(folder, torch.float32, CPU))
            for kind, load in kinds.items():
                lm = load(folder)
                if lm is not None:
                    lines.append((name, kind, *errors(exact, found(lm))))
                del lm
                gc.collect()
    print("\n".join(markdown(lines)))


def _models(made: Path, *, full: bool) -> Iterator[tuple[str, Path, dict[str, Load]]]:
    """Name, LLM folder and precisions of each."""
    few: dict[str, Load] = {"bfloat16, torch": _bfloat16, "int8, CPU": _cpu_int8}
    kernels_too = few | {"bfloat16, GPU": _fused, "int8, GPU": _fused_int8}
    weights_alone = few | {"int8, GPU, weights alone": with_rounded_weights}
    yield "embedded", DEMO / "LLM", kernels_too
    if not full:
        return
    for name, sizes, kinds in (
        (f"random, {SMALL.layers} layers of {SMALL.hidden}", SMALL, kernels_too),
        ("random, the published size", PUBLISHED, weights_alone),
    ):
        folder = make_random_checkpoint(made / name.replace(" ", "-"), sizes, "cpu")
        yield name, folder / "LLM", kinds


def _bfloat16(folder: Path) -> Decoder:
    return LanguageModel.load(folder, torch.bfloat16, CPU)


def _cpu_int8(folder: Path) -> Decoder | None:
    if why_unsupported(LMConfig.read(folder / "config.json")):
        return None
    kernel = LmKernel.open(torch.get_num_threads())
    return None if kernel is None else Int8LanguageModel.load(folder, kernel)


def _fused(folder: Path) -> Decoder:
    return FusedLanguageModel.load(folder, CPU, CpuLauncher())


def _fused_int8(folder: Path) -> Decoder:
    return FusedLanguageModel.load(folder, CPU, CpuLauncher(), CpuLauncher(kernels.INT8_FILE))


def found(lm: Decoder) -> tuple[Tensor, Tensor]:
    """Hidden states [1 + STEPS, D], and their logits of all tokens."""
    size = lm.config.vocab_size
    draws = torch.Generator().manual_seed(8)
    ids = torch.randint(size, (PROMPT + STEPS,), generator=draws).tolist()
    cache = lm.new_cache(1, PROMPT + STEPS)
    cache.reserve(0, PROMPT + STEPS)
    cache.flush()
    hidden = [lm.prefill([ids[:PROMPT]], cache.rows(0, 1)).clone()]
    for at in range(PROMPT, PROMPT + STEPS):
        step = lm.step(torch.tensor([ids[at]]), torch.tensor([at]), cache.rows(0, 1), at + 1)
        hidden.append(step.clone())
    states = torch.cat(hidden)
    return states.float(), lm.head(torch.arange(size))(states).float()


def errors(exact: tuple[Tensor, Tensor], mine: tuple[Tensor, Tensor]) -> tuple[str, str, str]:
    """Of hidden states and logits; the share of equal favourites."""
    hidden, logits = (
        (found - right).pow(2).mean().sqrt() for found, right in zip(mine, exact, strict=True)
    )
    same = (mine[1].argmax(1) == exact[1].argmax(1)).float().mean()
    size, spread = exact[0].pow(2).mean().sqrt(), exact[1].std()
    return f"{hidden / size:.4f}", f"{logits / spread:.4f}", f"{same:.0%}"


if __name__ == "__main__":
    main()
