"""Loads the language model on the fastest kernels that the setting and the device leave."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from worker.errors import SetupError
from worker.logs import event
from worker.speech.checkpoint import Checkpoint
from worker.speech.cuda.launcher import GpuLauncher
from worker.speech.cuda.lm import INT8_FILE, INT8_KERNELS
from worker.speech.device import has_fast_bfloat16
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.fused_weights import why_unsupported as why_not_fused
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.int8_weights import Weights, why_unsupported
from worker.speech.lm.interface import Decoder
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
INT8 = "int8"


def load_language_model(
    checkpoint: Checkpoint,
    published: Checkpoint,
    dtype: str,
    device: torch.device,
    int8_weights: Callable[[], Weights | None],
    *,
    fused: bool = True,
) -> Decoder:
    """The language model, on the fastest kernels that `dtype` and the device leave.

    `checkpoint` is the prepared one where there is one; all but float32 is read from it. Without
    `fused`, a GPU runs torch's kernels alone. Raises SetupError where int8 is demanded and
    impossible, or the files do not fit.
    """
    if dtype == INT8 or (dtype == "auto" and device.type == "cpu"):
        found: Decoder | str = "torch has no kernels for it"
        if device.type == "cpu":
            found = _load_int8(checkpoint.language_model, int8_weights)
        elif fused:
            found = _load_fused(checkpoint.language_model, device, int8=True)
        if not isinstance(found, str):
            return found
        if dtype == INT8:
            raise SetupError(f"SPARK_DTYPE=int8 cannot be had here ({found}); use auto")
        event(logging.INFO, "int8 is not possible", reason=found)
    precision = DTYPES.get(dtype) or _fastest_dtype(device)
    folder = (checkpoint if precision is torch.bfloat16 else published).language_model
    if fused and precision is torch.bfloat16 and device.type == "cuda":
        loaded = _load_fused(folder, device)
        if not isinstance(loaded, str):
            return loaded
        event(logging.WARNING, "fused kernels are not possible", reason=loaded)
    return LanguageModel.load(folder, precision, device)


def _fastest_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def _load_fused(
    folder: Path, device: torch.device, *, int8: bool = False
) -> FusedLanguageModel | str:
    """The language model on its own kernels, or why that is impossible."""
    if why := why_not_fused(LMConfig.read(folder / "config.json")):
        return why
    launcher = GpuLauncher.open(device)
    products = GpuLauncher.open(device, INT8_FILE, INT8_KERNELS) if launcher and int8 else None
    if launcher is None or (int8 and products is None):
        return "its kernels cannot be had here; an event before this one says why"
    return FusedLanguageModel.load(folder, device, launcher, products)


def _load_int8(folder: Path, int8_weights: Callable[[], Weights | None]) -> Int8LanguageModel | str:
    """The language model in int8 on a CPU, or why that is impossible."""
    if why := why_unsupported(LMConfig.read(folder / "config.json")):
        return why
    weights = int8_weights()
    kernel = LmKernel.open(torch.get_num_threads())
    if kernel is None:
        return "its kernel does not run on this machine; an event before this one says why"
    return Int8LanguageModel.load(folder, kernel, weights)
